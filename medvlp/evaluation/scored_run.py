"""What a test run left behind for a classification: the scores and labels of every sample."""

import csv
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from medvlp.evaluation.results import Results

_LABEL = " (label)"
_RESULTS, PREDICTIONS = "results.json", "predictions.csv"


@dataclass(frozen=True)
class ScoredRun:
    """One evaluation of a run.

    Attributes:
        folder: Where its files lie.
        facts: "folder", "protocol", "checkpoint_hash", "commit", "seed", "prompt_hash",
            "recipe_hash".
        class_names: Of the columns.
        sample_ids: Unique.
        patient_ids: One per sample.
        scores: NaN where a sample has none.
        labels: 1 present, 0 absent, -1 unknown.
    """

    folder: Path
    facts: dict[str, Any]
    class_names: list[str]
    sample_ids: list[str]
    patient_ids: list[str]
    scores: Float[ndarray, "n k"]
    labels: Int[ndarray, "n k"]

    @classmethod
    def read(cls, folder: str | Path, evaluation: str | None = None) -> "ScoredRun":
        """Read `results.json` and `predictions.csv` of an evaluation.

        Args:
            folder: Of the evaluation, or of a run that holds it.
            evaluation: Which of a run's; may be left out where there is one.

        Raises:
            FileNotFoundError: If the files are not there.
            ValueError: If the choice is not clear, or a file is not what it should be.
        """
        folder = evaluation_folder(Path(folder), evaluation)
        results = Results.from_json(folder / _RESULTS)
        path = folder / PREDICTIONS
        rows, names = _predictions(path)
        return cls(
            folder=folder,
            facts={
                "folder": str(folder),
                "protocol": results.protocol,
                "prompt_hash": results.prompt_hash,
                "recipe_hash": results.recipe_hash,
                "checkpoint_hash": results.provenance.checkpoint_hash,
                "commit": results.provenance.commit,
                "seed": results.provenance.seed,
            },
            class_names=names,
            sample_ids=_unique([row["sample_id"] for row in rows], path),
            patient_ids=[row["patient_id"] for row in rows],
            scores=np.array([[_number(row[name], path) for name in names] for row in rows]),
            labels=np.array(
                [[_label(row[f"{name}{_LABEL}"], path) for name in names] for row in rows]
            ),
        )

    def in_order_of(self, other: "ScoredRun") -> "ScoredRun":
        """Sort the samples as another run has them.

        Raises:
            ValueError: If the samples or their patients differ.
        """
        mine, wanted = set(self.sample_ids), set(other.sample_ids)
        if mine != wanted:
            example = sorted(mine ^ wanted)[0]
            raise ValueError(
                f"{other.folder} scored {len(wanted)} samples, {self.folder} {len(mine)}, of which "
                f"{len(mine & wanted)} are the same; {example} is in one only. Evaluate both on "
                "the same split of the same data"
            )
        row = {sample: number for number, sample in enumerate(self.sample_ids)}
        order = [row[sample] for sample in other.sample_ids]
        patients = [self.patient_ids[number] for number in order]
        if patients != other.patient_ids:
            raise ValueError(
                f"{other.folder} and {self.folder} give the same samples to other patients; "
                "evaluate both on the same data"
            )
        return replace(
            self,
            sample_ids=list(other.sample_ids),
            patient_ids=patients,
            scores=self.scores[order],
            labels=self.labels[order],
        )


def evaluation_folder(folder: Path, evaluation: str | None) -> Path:
    """Find the folder of an evaluation: a run's, or itself.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If the choice is not clear.
    """
    if evaluation is None and (folder / PREDICTIONS).is_file() and (folder / _RESULTS).is_file():
        return folder
    held = sorted(path.parent.name for path in folder.glob(f"*/{PREDICTIONS}"))
    if evaluation is None and len(held) == 1:
        return folder / held[0]
    if evaluation in held:
        return folder / str(evaluation)
    if not held:
        raise FileNotFoundError(
            f"{folder} holds no scores: expected {_RESULTS} and {PREDICTIONS} of an evaluation, "
            "there or in a folder below; train or evaluate with test first"
        )
    raise ValueError(
        f"{folder} holds the evaluations {', '.join(held)}; choose one with --evaluation"
    )


def _predictions(path: Path) -> tuple[list[dict[str, str]], list[str]]:
    """Read the rows of a table of scores and labels, and the names of its findings."""
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        rows, columns = list(reader), list(reader.fieldnames or ())
    names = [column for column in columns if f"{column}{_LABEL}" in columns]
    if not rows or not names or not {"sample_id", "patient_id"} <= set(columns):
        raise ValueError(
            f"{path} has {len(rows)} rows and the columns {', '.join(columns)}; expected "
            "sample_id, patient_id, and a score and a label of each finding"
        )
    return rows, names


def _unique(samples: list[str], path: Path) -> list[str]:
    if len(set(samples)) < len(samples):
        raise ValueError(f"{path} has samples twice; evaluate again")
    return samples


def _label(cell: str | None, path: Path) -> int:
    if cell not in ("-1", "0", "1"):
        raise ValueError(f"{path} has {cell or ''!r} where a label, 1, 0 or -1, is expected")
    return int(cell)


def _number(cell: str, path: Path) -> float:
    try:
        return float(cell) if cell else math.nan
    except ValueError:
        raise ValueError(f"{path} has {cell!r} where a number is expected") from None
