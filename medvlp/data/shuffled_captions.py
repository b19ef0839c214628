"""A negative control: captions that belong to other images."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from medvlp.data.image_sets import ImageItem, ImageSet


class ShuffledCaptions(ImageSet):
    """All images of several sets, with their texts permuted over the sets.

    A model trained on it must fall to chance; one that does not has found a leak between images
    and evaluation that is not language.

    Args:
        sets: In the place of these.
        seed: Of the permutation.
    """

    def __init__(self, sets: Sequence[ImageSet], *, seed: int = 0) -> None:
        self.sets, self.seed = tuple(sets), seed
        self.name = "shuffled_captions"
        self.label_names = tuple(dict.fromkeys(n for one in sets for n in one.label_names))
        self.skips = []
        self._ends = self._donors = np.zeros(0, np.int64)

    def open(self) -> None:
        """Open all sets and permute."""
        for one in self.sets:
            one.open()
        self.skips = [skip for one in self.sets for skip in one.skips]
        self._ends = np.cumsum([len(one) for one in self.sets])
        self._donors = np.random.default_rng(self.seed).permutation(len(self))

    def describe(self) -> dict[str, Any]:
        """Say whose captions were shuffled, and how."""
        return {
            "name": self.name,
            "sets": [one.describe() for one in self.sets],
            "seed": self.seed,
        }

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, index: int) -> ImageItem:
        texts = self._item(int(self._donors[index])).texts
        item = self._item(index)
        image_id = f"{self._set_of(index).name}/{item.image_id}"  # sets may count alike
        return replace(item, image_id=image_id, texts=texts)

    def text_length(self, index: int) -> int:
        """Count the characters of another image's texts."""
        donor = int(self._donors[index])
        return self._set_of(donor).text_length(self._place(donor))

    def _set_of(self, index: int) -> ImageSet:
        return self.sets[int(np.searchsorted(self._ends, index, side="right"))]

    def _place(self, index: int) -> int:
        number = int(np.searchsorted(self._ends, index, side="right"))
        return index - (int(self._ends[number - 1]) if number else 0)

    def _item(self, index: int) -> ImageItem:
        return self._set_of(index)[self._place(index)]
