"""Scores, decisions and labels of all samples of a split: what figures are computed from."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray


@dataclass(frozen=True)
class ScoreTable:
    """One row per sample, one column per class.

    Attributes:
        class_names: Of the columns.
        sample_ids: Unique.
        patient_ids: What the bootstrap resamples.
        scores: Probability that the finding is there; NaN where the sample takes no part, as it
            does not show the organ.
        decisions: The protocol's own yes/no, which a tie may separate from `score > 0.5`.
        labels: 1 present, 0 absent, -1 unknown.
        metadata: Attributes of each sample for subgroup tables; empty where unknown.
        recipe_hash: Of the preprocessing of all samples.
        duplicates_dropped: Rows left out because their sample was already there.
        study_ids: The study of each sample.
        num_scans: How many scans of it were looked at; empty where that is not known.
    """

    class_names: list[str]
    sample_ids: list[str]
    patient_ids: list[str]
    scores: Float[ndarray, "n k"]
    decisions: Bool[ndarray, "n k"]
    labels: Int[ndarray, "n k"]
    metadata: list[dict[str, str]]
    recipe_hash: str
    duplicates_dropped: int = 0
    study_ids: list[str] = field(default_factory=list)
    num_scans: list[int] = field(default_factory=list)

    @classmethod
    def from_rows(cls, rows: Sequence[dict[str, Any]], class_names: Sequence[str]) -> "ScoreTable":
        """Collect gathered rows, each sample once, in the order of their ids.

        Sorting makes figures independent of batch size, workers and ranks. Where a row has
        `absent`, it tells which of its scores are meant to be NaN.

        Raises:
            ValueError: If there are no rows, a score is not finite, or the scans were prepared
                with different recipes.
        """
        if not rows:
            raise ValueError(
                "no samples were scored; the split is empty, or `update` was never called"
            )
        kept = distinct_rows(rows)
        check_rows(kept)
        return cls(
            class_names=list(class_names),
            sample_ids=[row["sample_id"] for row in kept],
            patient_ids=[row["patient_id"] for row in kept],
            scores=np.array([row["scores"] for row in kept], dtype=np.float64),
            decisions=np.array([row["decisions"] for row in kept], dtype=bool),
            labels=np.array([row["labels"] for row in kept], dtype=np.int64),
            metadata=[row.get("metadata", {}) for row in kept],
            recipe_hash=kept[0]["recipe_hash"],
            duplicates_dropped=len(rows) - len(kept),
            study_ids=[row.get("study_id", row["sample_id"]) for row in kept],
            num_scans=[row["num_scans"] for row in kept if "num_scans" in row],
        )

    def where(self, member: Bool[ndarray, " n"]) -> "ScoreTable":
        """Keep some of the samples."""
        kept = np.flatnonzero(member)
        lists = ("sample_ids", "patient_ids", "metadata", "study_ids", "num_scans")
        arrays = ("scores", "decisions", "labels")
        changes = {name: getattr(self, name)[member] for name in arrays}
        for name in lists:
            values = getattr(self, name)
            changes[name] = [values[i] for i in kept] if values else []
        return replace(self, **changes)

    def columns(self, names: Sequence[str]) -> "ScoreTable":
        """Keep some of the classes, in the given order."""
        kept = [self.class_names.index(name) for name in names]
        arrays = {name: getattr(self, name)[:, kept] for name in ("scores", "decisions", "labels")}
        return replace(self, class_names=list(names), **arrays)

    def merged(self, name: str, sources: Sequence[str]) -> "ScoreTable":
        """Replace two classes by one that is there if either is, as HLIP scores calcification.

        The merged score is the larger of the two if either exceeds 0.5, else the smaller; the
        decision is their OR. The new column is last. Where one score is NaN, so is the merged.
        """
        columns = [self.class_names.index(source) for source in sources]
        scores, labels = self.scores[:, columns], self.labels[:, columns]
        kept = [k for k in range(len(self.class_names)) if k not in columns]
        unknown = np.where((labels == -1).any(axis=1), -1, 0)
        label = np.where((labels == 1).any(axis=1), 1, unknown)
        score = np.where((scores > 0.5).any(axis=1), scores.max(axis=1), scores.min(axis=1))
        decision = self.decisions[:, columns].any(axis=1)
        return replace(
            self,
            class_names=[*(self.class_names[k] for k in kept), name],
            scores=np.column_stack([self.scores[:, kept], score]),
            decisions=np.column_stack([self.decisions[:, kept], decision]),
            labels=np.column_stack([self.labels[:, kept], label]),
        )

    def predictions(self) -> list[dict[str, Any]]:
        """Return one flat row per sample: ids, number of scans, scores, labels."""
        table = []
        for i, (sample, patient) in enumerate(zip(self.sample_ids, self.patient_ids, strict=True)):
            scores = {
                name: float(p) for name, p in zip(self.class_names, self.scores[i], strict=True)
            }
            labels = {
                f"{name} (label)": int(y)
                for name, y in zip(self.class_names, self.labels[i], strict=True)
            }
            scans = {"num_scans": self.num_scans[i]} if self.num_scans else {}
            table.append({"sample_id": sample, "patient_id": patient, **scans, **scores, **labels})
        return table


def distinct_rows(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Keep the first row of each sample, sorted by sample."""
    unique = {row["sample_id"]: row for row in reversed(rows)}
    return [unique[key] for key in sorted(unique)]


def check_rows(rows: Sequence[dict[str, Any]]) -> None:
    """Refuse scores that are neither finite nor absent, and samples of different recipes.

    Raises:
        ValueError: If there are such rows.
    """
    broken = [
        row["sample_id"]
        for row in rows
        if not (np.isfinite(row["scores"]) | np.array(row.get("absent", False))).all()
    ]
    if broken:
        raise ValueError(
            f"{len(broken)} of {len(rows)} samples have scores that are not finite, first "
            f"{broken[0]}; look for NaN in the weights or the prepared scans"
        )
    recipes = sorted({row["recipe_hash"] for row in rows})
    if len(recipes) > 1:
        raise ValueError(
            f"samples were prepared with {len(recipes)} different recipes ({', '.join(recipes)}); "
            "run medvlp.prepare again with one"
        )
