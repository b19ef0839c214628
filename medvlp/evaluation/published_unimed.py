"""UniMed-CLIP's published output and table, for comparing number by number (arXiv 2412.10372)."""

from typing import Any, NamedTuple

from medvlp.evaluation.results import Figure, Macro, Results

_TWO_CLASS = ("acc", "auc_roc", "f1_score", "precision_score", "recall_score")


class PrintedColumn(NamedTuple):
    """A column of the published table of zero-shot means.

    Attributes:
        head: As printed.
        num_sets: Data sets in the column.
        modalities: What it holds; two where the publication does not decide.
        b16: UniMed-CLIP ViT-B/16, per cent.
    """

    head: str
    num_sets: int
    modalities: tuple[str, ...]
    b16: float


# README of the published repository. Its average is the mean over the 21 sets: the only whole
# numbers of sets per column with which all three printed rows give their averages are 2, 3, 2, 2,
# 4, 8. The evaluated sets are X-ray 2, fundus 4, CT 3, MRI 2, ultrasound 2, pathology 8, so the
# heads of columns 2, 3 and 5 (and perhaps 4) are exchanged.
PRINTED_COLUMNS = (
    PrintedColumn("X-ray", 2, ("xray",), 68.78),
    PrintedColumn("Retinal-Fundus", 3, ("ct",), 31.23),
    PrintedColumn("CT", 2, ("ultrasound", "mri"), 85.54),
    PrintedColumn("MRI", 2, ("ultrasound", "mri"), 68.83),
    PrintedColumn("US", 4, ("fundus",), 68.64),
    PrintedColumn("Histopathology", 8, ("pathology",), 59.96),
)
PRINTED_AVERAGE = 61.63


def slip_layout(results: Results) -> list[dict[str, Any]]:
    """Write each set as the published evaluation prints it, in per cent.

    {"task": name, "acc": number}, or of two classes a mapping of all figures in its place.
    """
    lines = []
    for macro in set_rows(results):
        values = {key: 100 * macro.figures[key].value for key in _TWO_CLASS if key in macro.figures}
        lines.append({"task": macro.name, "acc": values if len(values) > 1 else values["acc"]})
    return lines


def set_rows(results: Results) -> list[Macro]:
    """Return the macro rows of single sets."""
    return [macro for macro in results.macros if "n" in macro.figures]


def mean_rows(results: Results) -> list[Macro]:
    """Return the macro rows of means: over all sets, and over those of each modality."""
    return [macro for macro in results.macros if "n_sets" in macro.figures]


def printed_table(results: Results) -> list[list[str]]:
    """Lay the means out under the printed heads, beside the published row; the first row is heads.

    A column whose modality the publication does not decide shows both candidates.
    """
    means = {macro.name: macro.figures for macro in mean_rows(results)}
    rows = [
        ["", *(column.head for column in PRINTED_COLUMNS), "Avg"],
        ["holds", *(" or ".join(column.modalities) for column in PRINTED_COLUMNS), "all sets"],
        ["sets", *(str(column.num_sets) for column in PRINTED_COLUMNS), "21"],
        ["published, B/16", *(f"{c.b16:.2f}" for c in PRINTED_COLUMNS), f"{PRINTED_AVERAGE:.2f}"],
    ]
    for label, key in (("accuracy", "acc"), ("mixed", "mixed")):
        cells = [
            " or ".join(percent(means[name][key], 2) for name in column.modalities)
            for column in PRINTED_COLUMNS
        ]
        rows.append([f"here, {label}", *cells, percent(means["mean"][key], 2)])
    return rows


def percent(figure: Figure, digits: int = 1) -> str:
    """Write a share as per cent; a dash where it is undefined.

    >>> percent(Figure(0.6163), 2), percent(Figure(float("nan")))
    ('61.63', '-')
    """
    return f"{100 * figure.value:.{digits}f}" if figure.value == figure.value else "-"
