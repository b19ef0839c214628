"""HLIP's published result files and choices of studies, for comparing number by number."""

from collections.abc import Sequence
from typing import Any

from medvlp.evaluation.results import Results

_ARGMAX = ("acc (balanced)", "f1 (weighted)", "recall", "precision")

# Classes of a task of Pub-Brain-5 -> words of which the path of a study must contain one
# (published repository, 2025-06: its zero-shot evaluation of that set).
_STUDY_WORDS = {
    ("Normal", "Stroke"): ("open_bhb", "stroke"),
    ("Normal", "Glioma"): ("open_bhb", "glioma"),
    ("Normal", "Meningioma"): ("open_bhb", "meningioma"),
    ("Normal", "Metastasis"): ("open_bhb", "metastasis", "nyu_mets", "ucsf_mets"),
    ("Glioma", "Meningioma", "Metastasis"): ("brats23", "nyu_mets", "ucsf_mets"),
    ("Normal", "Stroke", "Glioma", "Meningioma", "Metastasis"): ("",),  # every study
}


def study_words(classes: Sequence[str]) -> tuple[str, ...]:
    """Return the words of which a study's path contains one if the published task takes it.

    Raises:
        ValueError: If no published task chooses among these classes.
    """
    if tuple(classes) not in _STUDY_WORDS:
        tasks = "; ".join(", ".join(task) for task in _STUDY_WORDS)
        raise ValueError(
            f"no published task of Pub-Brain-5 is about {', '.join(classes)}, in this order; "
            f"published are: {tasks}. Without compat the studies are chosen by label"
        )
    return _STUDY_WORDS[tuple(classes)]


def pub_brain_5_layout(results: Results) -> dict[str, dict[str, float]]:
    """Write one task of Pub-Brain-5 under the names that the published scripts print."""
    figures = {name: one.value for name, one in results.macros[0].figures.items()}
    names = [*(finding.name for finding in results.findings), *results.skipped]
    values = {"Balanced Acc": figures["balanced_accuracy"]}
    if len(names) == 1:
        # spelt as it is printed
        key = "Weghted F1" if names[0] == "Stroke" else "Weighted F1"
        values |= {key: figures["f1_weighted"]}
        values |= {"Recall": figures["recall"], "Precision": figures["precision"]}
        title = f"{names[0]} Detection (2-way)"
    else:
        kind = "Tumor" if len(names) == 3 else "Disease"
        title = f"{kind} Classification ({len(names)}-way)"
    return {title: values | {"Macro AUC": figures["auroc"]}}


def retrieval_layout(results: Results) -> dict[str, float]:
    """Write retrieval over all samples under the names of the published validation."""
    figures = {macro.name: macro.figures for macro in results.macros}
    layout = {
        f"{direction}_{metric}": one.value
        for direction in ("image_to_text", "text_to_image")
        for metric, one in figures[direction].items()
        if metric != "n"
    }
    return layout | {"clip_val_score": figures["pairs"]["clip_val_score"].value}


def hlip_layout(results: Results) -> dict[str, dict[str, Any]]:
    """Write the macro row `all` and every finding under the keys of the published JSON.

    The dictionary `mean` holds the means of the decisions by the more probable prompt, `* mean`
    those at the tuned threshold and, only there, the mean AUC. The published key
    "* acc (balanced)" is plain accuracy.
    """
    starred = [f"* {key}" for key in _ARGMAX]
    layout: dict[str, dict[str, Any]] = {}
    for finding in results.findings:
        keys = {key: finding.figures[key].value for key in (*_ARGMAX, *starred)}
        layout[finding.name] = keys | {"auc": finding.figures["auroc"].value}
    figures = next(macro for macro in results.macros if macro.name == "all").figures
    layout["mean"] = {f"mean {key}": figures[key].value for key in _ARGMAX}
    layout["* mean"] = {"mean auc": figures["auroc"].value}
    layout["* mean"] |= {f"* mean {key}": figures[f"* {key}"].value for key in _ARGMAX}
    return layout
