"""Where 2D images come from: a table of files, or WebDataset shards; all are read by index."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int
from numpy import ndarray

from medvlp.data.packed_rows import PackedRows
from medvlp.data.records import Skip, StudySource


@dataclass(frozen=True)
class ImageItem:
    """One image as stored, with what is known of it.

    Attributes:
        image_id: Unique in its set.
        patient_id: Of whom it is; the image itself where that is unknown.
        content: Bytes of the file.
        texts: Section name to text.
        labels: Label name to 1 present, 0 absent, -1 unknown.
        metadata: "modality" and the like; never a name or birth date.
    """

    image_id: str
    patient_id: str
    content: bytes
    texts: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, int] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)


class ImageSet(ABC):
    """Images that are read by index.

    Attributes:
        name: For messages and for mixing weights.
        modality: Of all images, for mixing; "" where it is not known or not one.
        label_names: The order of the labels in a batch.
        skips: What `open` left out, and why.
    """

    name: str
    modality: str = ""
    label_names: tuple[str, ...] = ()
    skips: list[Skip]

    @abstractmethod
    def open(self) -> None:
        """Read tables or indices; called once, before anything else, in the main process.

        Raises:
            FileNotFoundError: If the set is not there.
            ValueError: If a table lacks what it must have, or no image is left.
        """

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """State in JSON types which images these are, so that others are noticed."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, index: int) -> ImageItem: ...

    @abstractmethod
    def text_length(self, index: int) -> int:
        """Say how long the texts of an image are, in characters, without reading the image."""

    def families(self, rows: Int[ndarray, " s"]) -> Int[ndarray, " s"]:
        """Give these images numbers: images that a split must not part have the same one.

        By default those of one patient, whom each image is read to find.
        """
        return np.array([_number(self[int(row)].patient_id) for row in rows], np.int64)

    def shard_numbers(self, rows: Int[ndarray, " s"]) -> Int[ndarray, " s"]:
        """Say in which file each of these images lies, by its number, where many share one."""
        return np.zeros(len(rows), np.int64)


class FileImages(ImageSet):
    """Image files that a data set names one by one: `Folder` reads your own table.

    Args:
        source: Every scan of a study is an image.
        split: Which studies: "train", "val", "test", or None for all.
    """

    def __init__(self, source: StudySource, *, split: str | None = None) -> None:
        self.source, self.split = source, split
        self.name, self.label_names = source.name, source.label_names
        self.skips = []
        self._rows, self._stamp = PackedRows([]), ""

    def open(self) -> None:
        """Read the table."""
        self.source.materialise()
        rows: list[dict[str, Any]] = []
        for study in self.source.studies():
            if self.split is None or study.split == self.split:
                rows += [
                    {
                        "image_id": scan.scan_id,
                        "patient_id": study.patient_id,
                        "path": str(scan.path),
                        "texts": dict(study.texts),
                        "labels": dict(study.labels),
                        "metadata": {"modality": scan.modality, **study.metadata},
                    }
                    for scan in study.scans
                ]
        self.skips = list(self.source.skips)
        if not rows:
            raise ValueError(f"{self.name} has no image in split {self.split!r}")
        self._rows = PackedRows(rows)
        modalities = {row["metadata"]["modality"] for row in rows}
        self.modality = modalities.pop() if len(modalities) == 1 else ""
        states = [Path(row["path"]).stat() for row in rows]
        text = repr([(state.st_size, state.st_mtime_ns) for state in states])
        self._stamp = hashlib.sha256(text.encode()).hexdigest()[:16]

    def describe(self) -> dict[str, Any]:
        """State the table, which rows of it, and size and time of the files."""
        return {**self.source.describe(), "split": self.split, "stamp": self._stamp}

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> ImageItem:
        row = self._rows[index]
        content = Path(row.pop("path")).read_bytes()
        return ImageItem(content=content, **row)

    def families(self, rows: Int[ndarray, " s"]) -> Int[ndarray, " s"]:
        """Give images of one patient the same number."""
        patients = (self._rows[int(row)]["patient_id"] for row in rows)
        return np.array([_number(patient) for patient in patients], np.int64)

    def text_length(self, index: int) -> int:
        """Count the characters of all sections."""
        return sum(map(len, self._rows[index]["texts"].values()))


def _number(patient_id: str) -> int:
    digest = hashlib.blake2b(patient_id.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
