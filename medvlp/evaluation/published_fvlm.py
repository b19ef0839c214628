"""Score a table as fVLM's script: `python -m medvlp.evaluation.published_fvlm SCORES LABELS`.

SCORES is a table in the published layout, or predictions.csv of a test, which has its labels. By
default an absent organ takes no part; --compat published counts it as probability 0. The threshold
of each finding is chosen on the scored labels themselves, as published, unless --thresholds names
the results.json of a validation run.
"""

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medvlp.evaluation.classification import (
    PUBLISHED_RULE,
    ClassificationProtocol,
    classification_results,
    known_rows,
)
from medvlp.evaluation.results import Results, without_nan
from medvlp.evaluation.score_table import ScoreTable
from medvlp.evaluation.statistics import (
    closest_corner_threshold,
    confusion_metrics,
    ranking_metrics,
)
from medvlp.user_errors import one_line_errors

if TYPE_CHECKING:
    from rich.console import Console

PRINTED = {
    "AUC": "auc",
    "ACC": "acc",
    "Spec": "spec",
    "Sens": "sens",
    "F1": "f1_weighted",
    "Prec": "precision",
}
"""As the script prints them, in this order -> figure of a finding."""

Figures = dict[str, dict[str, float]]
"""Finding -> figure -> value."""


def published_figures(table: ScoreTable, thresholds: Mapping[str, float] | None = None) -> Figures:
    """Compute the figures of every finding: those of `PRINTED`, and `threshold`.

    Those of a finding whose labels are all equal are NaN; the published script fails there.

    Args:
        table: See `read_scores`.
        thresholds: By finding; without them each is the one that suits the scored labels best, see
            `closest_corner_threshold`.

    Raises:
        ValueError: If a finding has no threshold.

    Reference: fVLM (ICLR 2025, arXiv 2501.14548), published metrics.
    """
    return {name: _figures(table, k, thresholds) for k, name in enumerate(table.class_names)}


def _figures(table: ScoreTable, k: int, thresholds: Mapping[str, float] | None) -> dict[str, float]:
    known = known_rows(table, k)
    labels, scores = table.labels[known, k] == 1, table.scores[known, k]
    if labels.all() or not labels.any():
        return dict.fromkeys((*PRINTED.values(), "threshold"), math.nan)
    name = table.class_names[k]
    if thresholds is not None and name not in thresholds:
        raise ValueError(
            f"no threshold for {name} among those given ({', '.join(thresholds)}); take them from "
            "a split in which the finding occurs"
        )
    threshold = closest_corner_threshold(labels, scores) if thresholds is None else thresholds[name]
    weights = np.ones((1, len(labels)))
    at = {
        metric: float(value[0])
        for metric, value in confusion_metrics(labels, scores > threshold, weights).items()
    }
    return {
        "auc": float(ranking_metrics(labels, scores, weights)[0][0]),
        "acc": at["accuracy"],
        "spec": float((scores[~labels] <= threshold).mean()),
        "sens": at["recall"],
        "f1_weighted": at["f1_weighted"],
        "precision": at["precision"],
        "threshold": threshold,
    }


def printed_means(figures: Figures) -> dict[str, float]:
    """Average over the findings that have figures, to three digits by NumPy, as the script prints.

    >>> row = dict.fromkeys(PRINTED.values(), 0.6375)
    >>> printed_means({"a": row, "b": row})["ACC"]
    0.638
    """
    rows = [row for row in figures.values() if not math.isnan(row["auc"])]
    if not rows:
        return dict.fromkeys(PRINTED, math.nan)
    return {
        printed: float(np.round(np.mean([row[key] for row in rows]), 3))
        for printed, key in PRINTED.items()
    }


def with_intervals(
    table: ScoreTable, thresholds: Mapping[str, float] | None = None, *, seed: int = 0
) -> Results:
    """Compute all figures of `classification_results`, with intervals over patients."""
    protocol = ClassificationProtocol(
        name="zero_shot/table/published_fvlm",
        prompt_hash="",
        groups={"all": table.class_names},
        thresholds=thresholds,
        threshold_rule=PUBLISHED_RULE if thresholds is None else "closest_corner_validation",
        seed=seed,
    )
    return classification_results(table, protocol)


def score(options: argparse.Namespace) -> None:
    """Run what the command line asks for."""
    from rich.console import Console

    from medvlp.evaluation.published_fvlm_table import column_names, read_scores, write_scores
    from medvlp.prompts.prompt_set import PromptSet

    table = read_scores(options.scores, options.labels, compat=options.compat)
    thresholds = None
    if options.thresholds is not None:
        source = Results.from_json(options.thresholds)
        if source.score_rule != "pair":
            raise ValueError(
                f"{options.thresholds} holds thresholds of scores by the rule "
                f"{source.score_rule!r}, here are probabilities of prompt pairs ('pair')"
            )
        thresholds = {finding.name: finding.threshold for finding in source.findings}
    figures = published_figures(table, thresholds)
    results = with_intervals(table, thresholds)
    console = Console(width=110, highlight=False)
    _print(console, table, figures, results)
    if options.out is not None:
        results.to_json(options.out / "results.json")
        record = {"findings": figures, "means": printed_means(figures), "compat": options.compat}
        text = json.dumps(without_nan(record), indent=1) + "\n"
        (options.out / "published.json").write_text(text, encoding="utf-8")
        console.print(f"results.json and published.json lie in {options.out}")
    if options.export is not None:
        table = read_scores(options.scores, options.labels)  # an absent organ is an empty cell
        write_scores(options.export, table, column_names(PromptSet.load(options.prompts)))
        console.print(f"scores in the published layout: {options.export}")


def _print(console: "Console", table: ScoreTable, figures: Figures, results: Results) -> None:
    from rich import box
    from rich.table import Table

    grid = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for k, column in enumerate(("finding", "n", "pos", "AUC [95 %]", *list(PRINTED)[1:], "at >")):
        grid.add_column(column, justify="right" if k else "left", no_wrap=k > 0)
    scored = {finding.name: finding for finding in results.findings}
    for name, row in figures.items():
        if name in scored:
            one = scored[name]
            auc = one.figures["auroc"]
            cells = [f"{row[key]:.3f}" for key in [*list(PRINTED.values())[1:], "threshold"]]
            interval = f"{auc.value:.3f} [{auc.low:.3f}, {auc.high:.3f}]"
            grid.add_row(name, str(one.num_known), str(one.num_positive), interval, *cells)
    console.print(grid)
    for name, reason in results.skipped.items():
        console.print(f"{name}: no figures, {reason}", markup=False)
    absent = int(np.isnan(table.scores).any(axis=1).sum())
    if absent:
        console.print(
            f"{absent} of {len(table.sample_ids)} volumes lack an organ: not scored there"
        )
    console.print(
        f"means over {len(scored)} findings, {results.num_samples} volumes of "
        f"{results.num_patients} patients; thresholds: {results.threshold_rule}"
    )
    for printed, value in printed_means(figures).items():
        console.print(f"{printed}: {value}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m medvlp.evaluation.published_fvlm")
    parser.description = __doc__
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add("scores", type=Path, help="CSV: file_name, organ_finding_negative_positive ...")
    add("labels", type=Path, nargs="?", help="CSV: VolumeName and one column per finding")
    add("--compat", choices=("published",), help="an absent organ is probability 0")
    add("--thresholds", type=Path, metavar="FILE", help="results.json of a validation run")
    add("--out", type=Path, metavar="DIR", help="writes results.json and published.json")
    add("--export", type=Path, metavar="CSV", help="writes the scores in the published layout")
    add("--prompts", default="fvlm", help="prompt set that names its columns; default: %(default)s")
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; errors of the user end with one line."""
    options = _parser().parse_args(arguments)
    with one_line_errors():
        score(options)


if __name__ == "__main__":
    main()
