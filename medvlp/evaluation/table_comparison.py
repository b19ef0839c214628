"""Paired comparison of two runs of retrieval, generated texts or places, over the same samples."""

import csv
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from medvlp.evaluation.compared_figures import (
    TRUE_PLACES,
    TRUTH,
    Rows,
    Samples,
    comparable,
    figures_of,
)
from medvlp.evaluation.comparison import Pair
from medvlp.evaluation.results import without_nan
from medvlp.evaluation.scored_run import PREDICTIONS, evaluation_folder
from medvlp.evaluation.statistics import bootstrap_facts, figure, patient_weights


@dataclass(frozen=True)
class TableComparison:
    """Where two runs differ.

    Attributes:
        first: Folder of the first run's evaluation.
        second: Of the second.
        num_samples: Of both; in retrieval they ask among the same.
        num_patients: The unit that the bootstrap resamples.
        bootstrap: Unit, resamples, level and seed of the intervals.
        groups: Direction of retrieval or kind of figures ("text") to figure ("R@5") to its values
            and their difference.
    """

    first: str
    second: str
    num_samples: int
    num_patients: int
    bootstrap: dict[str, Any]
    groups: dict[str, dict[str, Pair]]


def has_figures(folder: Path, evaluation: str | None) -> bool:
    """Tell whether an evaluation of a run has written ranks or generated texts.

    Raises:
        FileNotFoundError, ValueError: If there is no evaluation, or a choice of several.
    """
    path = evaluation_folder(folder, evaluation) / PREDICTIONS
    with path.open(newline="", encoding="utf-8") as file:
        return comparable(next(csv.reader(file), []))


def compare_tables(
    folders: tuple[Path, Path],
    evaluations: tuple[str | None, str | None] = (None, None),
    *,
    num_resamples: int = 1000,
    seed: int = 0,
) -> TableComparison:
    """Compare two runs on the same resamples of patients; in retrieval of those that ask.

    Args:
        folders: What is hoped to be better, and what it is compared with.
        evaluations: Which of each run's.
        num_resamples: Of the patients.
        seed: Of the resampling.

    Raises:
        FileNotFoundError, ValueError: If a run has no such figures, or they are of other samples.
    """
    where = [evaluation_folder(*pair) for pair in zip(folders, evaluations, strict=True)]
    runs = _same_samples(where)
    patients = [row["patient_id"] for row in runs[0]]
    weights = np.vstack([np.ones(len(patients)), patient_weights(patients, num_resamples, seed)])
    one, other = (figures_of(run, weights) for run in runs)
    return TableComparison(
        str(where[0]),
        str(where[1]),
        len(patients),
        len(set(patients)),
        bootstrap_facts(num_resamples, seed),
        {group: _pairs(one[group], other[group]) for group in one if group in other},
    )


def print_tables(comparison: TableComparison, console: Console | None = None) -> None:
    """Print the table and what its intervals are."""
    console = console or Console()
    for line in table_markdown(comparison).splitlines():
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def write_tables(comparison: TableComparison, folder: Path) -> None:
    """Write `comparison.json` and `comparison.md`."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(without_nan(asdict(comparison)), indent=1, allow_nan=False)
    (folder / "comparison.json").write_text(text + "\n", encoding="utf-8")
    (folder / "comparison.md").write_text(table_markdown(comparison), encoding="utf-8")


def table_markdown(comparison: TableComparison) -> str:
    """Return one table over all groups, and the notes."""
    lines = ["| | figure | A | B | A - B [95 %] |", "|---|---|---|---|---|"]
    for group, pairs in comparison.groups.items():
        for name, pair in pairs.items():
            gain = pair.difference
            between = f"{gain.value:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]"
            values = f"{pair.first.value:.3f} | {pair.second.value:.3f}"
            lines.append(f"| {group} | {name} | {values} | {between} |")
    boot = comparison.bootstrap
    notes = (
        f"A: {comparison.first}",
        f"B: {comparison.second}",
        f"{comparison.num_samples} samples of {comparison.num_patients} patients, the same in "
        f"both; intervals: {boot['level']:.0%} paired bootstrap over patients, "
        f"{boot['resamples']} resamples, seed {boot['seed']}",
    )
    return "\n".join([*lines, "", *(f"- {note}" for note in notes)]) + "\n"


def _same_samples(where: Sequence[Path]) -> tuple[Rows, Rows]:
    first, second = map(_rows, where)
    if first.keys() != second.keys():
        raise ValueError(
            f"{where[0]} has {len(first)} samples and {where[1]} {len(second)}, and not the same; "
            "evaluate both on the same split of the same data"
        )
    for what, key in (("texts", TRUTH), ("places", TRUE_PLACES)):
        if any(first[sample].get(key) != second[sample].get(key) for sample in first):
            raise ValueError(
                f"{where[0]} and {where[1]} have other true {what}; evaluate both on the same data"
            )
    return list(first.values()), [second[sample] for sample in first]


def _rows(folder: Path) -> dict[str, dict[str, str]]:
    path = folder / PREDICTIONS
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if not rows or not comparable(list(rows[0])):
        raise ValueError(
            f"{path} has neither ranks nor texts; compare it with an evaluation of its own kind"
        )
    found = {row["sample_id"]: row for row in rows}
    if len(found) < len(rows):
        raise ValueError(f"{path} has samples twice; evaluate again")
    return found


def _pairs(one: Samples, other: Samples) -> dict[str, Pair]:
    return {
        name: Pair(figure(one[name]), figure(other[name]), figure(one[name] - other[name]))
        for name in one
        if name in other
    }
