"""A part of a set of images held out for validation: the same in every run."""

import hashlib
from typing import Any, Literal

import numpy as np
from jaxtyping import Int
from numpy import ndarray

from medvlp.data.image_sets import ImageItem, ImageSet


class HeldOut(ImageSet):
    """One of two parts of a set: what training sees, or what validation sees.

    The parts follow from the images alone. Images of one patient stay together where the set knows
    patients; web shards do not, there copies of one image stay together, under any caption.

    Args:
        images: The whole set.
        fraction: About this share of it is held out, but neither nothing nor all.
        part: "train" is what is left, "val" what is held out.
    """

    def __init__(self, images: ImageSet, fraction: float, *, part: Literal["train", "val"]) -> None:
        if not 0 < fraction < 1 or part not in ("train", "val"):
            raise ValueError(
                f"fraction is {fraction} and part {part!r}; expected a number between 0 and 1, and "
                "'train' or 'val'"
            )
        self.images, self.fraction = images, fraction
        self.part: Literal["train", "val"] = part
        self.name, self.modality, self.label_names = (
            images.name,
            images.modality,
            images.label_names,
        )
        self.skips = []
        self._rows = np.zeros(0, np.int64)

    def open(self) -> None:
        """Open the set and divide it."""
        self.images.open()
        self.modality = self.images.modality
        self.skips = list(self.images.skips) if self.part == "train" else []  # told once
        everything = np.arange(len(self.images))
        families = self.images.families(everything)
        if len(np.unique(families)) < 2:
            raise ValueError(
                f"{self.name}: {len(self.images)} images of one patient or copies of each other "
                "cannot be divided; leave the set out of data.val, and its part out of data.train"
            )
        held_out = np.isin(families, _chosen(families, self.fraction))
        self._rows = np.flatnonzero(held_out == (self.part == "val"))

    def describe(self) -> dict[str, Any]:
        """State the whole set and the part of it."""
        return {**self.images.describe(), "held out": self.fraction, "part": self.part}

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> ImageItem:
        if not 0 <= index < len(self):
            raise IndexError(f"image {index} of {len(self)}")
        return self.images[int(self._rows[index])]

    def text_length(self, index: int) -> int:
        """See `ImageSet.text_length`."""
        return self.images.text_length(int(self._rows[index]))

    def families(self, rows: Int[ndarray, " s"]) -> Int[ndarray, " s"]:
        """See `ImageSet.families`."""
        return self.images.families(self._rows[rows])

    def shard_numbers(self, rows: Int[ndarray, " s"]) -> Int[ndarray, " s"]:
        """See `ImageSet.shard_numbers`."""
        return self.images.shard_numbers(self._rows[rows])


def _chosen(families: Int[ndarray, " s"], fraction: float) -> Int[ndarray, " f"]:
    """List the families that are held out: those whose hash is low, but neither none nor all."""
    distinct = np.unique(families)
    places = np.array([_place(int(number)) for number in distinct])
    count = np.clip((places < fraction).sum(), 1, len(distinct) - 1)
    return distinct[np.argsort(places)[:count]]


def _place(number: int) -> float:
    digest = hashlib.blake2b(str(number).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
