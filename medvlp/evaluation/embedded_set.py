"""Embedded samples with their labels: what a probe is fitted on, and how that is kept in a file."""

import io
import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray

_LISTS = ("sample_ids", "patient_ids", "label_names", "metadata")


@dataclass(frozen=True)
class EmbeddedSet:
    """Features of the samples of one split.

    Attributes:
        features: Of the image tower.
        labels: 1 present, 0 absent, -1 unknown.
        label_names: Of their columns.
        sample_ids: Unique.
        patient_ids: What statistics resample.
        metadata: Of each sample.
        recipe_hash: Of the preprocessing.
    """

    features: Float[ndarray, "n e"]
    labels: Int[ndarray, "n k"]
    label_names: list[str]
    sample_ids: list[str]
    patient_ids: list[str]
    metadata: list[dict[str, str]]
    recipe_hash: str

    def __len__(self) -> int:
        return len(self.sample_ids)

    def where(self, rows: Bool[ndarray, " n"]) -> "EmbeddedSet":
        """Keep some of the samples."""
        kept = np.flatnonzero(rows)
        lists = ("sample_ids", "patient_ids", "metadata")
        changes = {name: [getattr(self, name)[row] for row in kept] for name in lists}
        return replace(self, features=self.features[kept], labels=self.labels[kept], **changes)

    def labelled_by(self, key: str, classes: Sequence[str]) -> "EmbeddedSet":
        """Take the classes from the metadata instead: one of them is present, or all unknown."""
        values = [row.get(key, "") for row in self.metadata]
        rows = [[int(v == name) for name in classes] for v in values]
        labels = np.array(rows, dtype=np.int64).reshape(len(values), len(classes))
        labels[labels.sum(axis=1) == 0] = -1
        return replace(self, labels=labels, label_names=list(classes))

    def to_bytes(self) -> bytes:
        """Write everything as the content of an NPZ file."""
        lists = {name: getattr(self, name) for name in _LISTS} | {"recipe_hash": self.recipe_hash}
        text = np.frombuffer(json.dumps(lists).encode(), dtype=np.uint8)
        buffer = io.BytesIO()
        np.savez(buffer, features=self.features, labels=self.labels, lists=text)
        return buffer.getvalue()

    @classmethod
    def from_file(cls, path: Path) -> "EmbeddedSet":
        """Read what `to_bytes` made.

        Raises:
            ValueError: If the file is damaged.
        """
        try:
            with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as stored:
                lists = json.loads(stored["lists"].tobytes())
                return cls(features=stored["features"], labels=stored["labels"], **lists)
        except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
            raise ValueError(f"{path} is damaged ({error}); remove it and embed again") from error
