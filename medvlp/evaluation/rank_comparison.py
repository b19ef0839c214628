"""Paired comparison of two runs of retrieval over the same samples, from the ranks they wrote."""

import csv
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from rich.console import Console

from medvlp.evaluation.comparison import Pair
from medvlp.evaluation.retrieval_metrics import rank_metrics
from medvlp.evaluation.scored_run import PREDICTIONS, evaluation_folder
from medvlp.evaluation.statistics import bootstrap_facts, figure, patient_weights

CUTOFFS = (1, 5, 10, 50, 100)
_COLUMN = "rank "


@dataclass(frozen=True)
class RankComparison:
    """Where two runs of retrieval differ.

    Attributes:
        first: Folder of the first run's evaluation.
        second: Of the second.
        num_samples: Ranked by both; they ask among the same.
        num_patients: The unit that the bootstrap resamples.
        bootstrap: Unit, resamples, level and seed of the intervals.
        directions: Direction of retrieval to figure ("R@5") to its values and their difference.
    """

    first: str
    second: str
    num_samples: int
    num_patients: int
    bootstrap: dict[str, Any]
    directions: dict[str, dict[str, Pair]]


def has_ranks(folder: Path, evaluation: str | None) -> bool:
    """Tell whether an evaluation of a run has written ranks.

    Raises:
        FileNotFoundError, ValueError: If there is no evaluation, or a choice of several.
    """
    with (evaluation_folder(folder, evaluation) / PREDICTIONS).open(encoding="utf-8") as file:
        return f",{_COLUMN}" in file.readline()


def compare_ranks(
    folders: tuple[Path, Path],
    evaluations: tuple[str | None, str | None] = (None, None),
    *,
    num_resamples: int = 1000,
    seed: int = 0,
) -> RankComparison:
    """Compare two runs on the same resamples of the patients that ask.

    Args:
        folders: What is hoped to be better, and what it is compared with.
        evaluations: Which of each run's.
        num_resamples: Of the patients.
        seed: Of the resampling.

    Raises:
        FileNotFoundError, ValueError: If a run has no ranks, or they ranked other samples.
    """
    where = [evaluation_folder(*pair) for pair in zip(folders, evaluations, strict=True)]
    first, second = map(_ranks, where)
    if first.keys() != second.keys():
        raise ValueError(
            f"{where[0]} ranked {len(first)} samples and {where[1]} {len(second)}, and not the "
            "same; evaluate both on the same split of the same data"
        )
    patients = [row["patient_id"] for row in first.values()]
    weights = np.vstack([np.ones(len(patients)), patient_weights(patients, num_resamples, seed)])
    directions: dict[str, dict[str, Pair]] = {}
    for column in next(iter(first.values())):
        if column.startswith(_COLUMN):
            ranks = [[float(run[sample][column]) for sample in first] for run in (first, second)]
            directions[column.removeprefix(_COLUMN)] = _pairs(np.array(ranks), weights)
    return RankComparison(
        str(where[0]),
        str(where[1]),
        len(patients),
        len(set(patients)),
        bootstrap_facts(num_resamples, seed),
        directions,
    )


def print_ranks(comparison: RankComparison, console: Console | None = None) -> None:
    """Print the table and what its intervals are."""
    console = console or Console()
    for line in rank_markdown(comparison).splitlines():
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def write_ranks(comparison: RankComparison, folder: Path) -> None:
    """Write `comparison.json` and `comparison.md`."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(asdict(comparison), indent=1, allow_nan=False)
    (folder / "comparison.json").write_text(text + "\n", encoding="utf-8")
    (folder / "comparison.md").write_text(rank_markdown(comparison), encoding="utf-8")


def rank_markdown(comparison: RankComparison) -> str:
    """Return one table over both directions, and the notes."""
    lines = ["| direction | figure | A | B | A - B [95 %] |", "|---|---|---|---|---|"]
    for direction, pairs in comparison.directions.items():
        for name, pair in pairs.items():
            gain = pair.difference
            between = f"{gain.value:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]"
            values = f"{pair.first.value:.3f} | {pair.second.value:.3f}"
            lines.append(f"| {direction} | {name} | {values} | {between} |")
    boot = comparison.bootstrap
    notes = (
        f"A: {comparison.first}",
        f"B: {comparison.second}",
        f"{comparison.num_samples} samples of {comparison.num_patients} patients, the same in "
        f"both; intervals: {boot['level']:.0%} paired bootstrap over the patients that ask, "
        f"{boot['resamples']} resamples, seed {boot['seed']}",
    )
    return "\n".join([*lines, "", *(f"- {note}" for note in notes)]) + "\n"


def _ranks(folder: Path) -> dict[str, dict[str, str]]:
    path = folder / PREDICTIONS
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if not rows or not any(column.startswith(_COLUMN) for column in rows[0]):
        raise ValueError(f"{path} has no ranks; compare it with an evaluation of its own kind")
    found = {row["sample_id"]: row for row in rows}
    if len(found) < len(rows):
        raise ValueError(f"{path} has samples twice; evaluate again")
    return found


def _pairs(ranks: Float[ndarray, "2 n"], weights: Float[ndarray, "r n"]) -> dict[str, Pair]:
    """Compute every figure of both runs; ranks are counted from 1."""
    cutoffs: Sequence[int] = [k for k in CUTOFFS if k < ranks.shape[1]]
    one, other = (rank_metrics(run - 1, weights, cutoffs=cutoffs) for run in ranks)
    return {
        name: Pair(figure(one[name]), figure(other[name]), figure(one[name] - other[name]))
        for name in one
    }
