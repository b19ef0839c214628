"""Places that a label map of the trunk holds twice over: which organ, and at which level and side.

Radiologists say "colon, left, at the level of L3". The organ is seen close by; level and side take
a view of the whole trunk, for organs that run through it look alike at all levels.
"""

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Integer

from medvlp.data.scan import Scan

SIDES = ("left", "central", "right")
_PART = re.compile(r"_(left|right)\b|_[CTLS]\d+$|_\d+$")


class SidesAndLevels:
    """Divides a label map of TotalSegmentator into organs at levels and sides.

    Names are like "Colon at left L3", or "Colon at left L3-L4" for a level between two.

    Args:
        levels: Level to the labels at whose mean height it is, from above; the nearest counts.
            Those that the map has none of are left out.
        between: Count heights halfway between two levels as levels too.
        central_mm: From the middle of the levels' labels to either side.
    """

    def __init__(
        self, levels: Mapping[str, Sequence[str]], *, between: bool, central_mm: float
    ) -> None:
        if not levels or central_mm < 0:
            raise ValueError(
                f"levels are {dict(levels)} and central_mm is {central_mm}, expected at least one "
                "level and a width from 0 up"
            )
        self.levels = {level: tuple(labels) for level, labels in levels.items()}
        self.between, self.central_mm = between, float(central_mm)

    def describe(self) -> dict[str, Any]:
        """State all of the rule, in JSON types."""
        levels = {level: list(labels) for level, labels in self.levels.items()}
        return {"levels": levels, "between": self.between, "central_mm": self.central_mm}

    def leaves(
        self, label_map: Scan, names: Mapping[int, str]
    ) -> tuple[Int[np.ndarray, "d h w"], dict[int, str]]:
        """Number the pairs of cell and organ on the lattice of the map, and name them."""
        heights, right_mm = _heights(label_map, names, self.levels)
        if self.between:
            heights = with_halfway(heights)
        cells = [f"{side} {level}" for level in heights for side in SIDES]
        cell = _cells(label_map, np.array([*heights.values()]), right_mm, self.central_mm)
        words = [*dict.fromkeys(map(organ_word, names.values()))]
        word_of = np.full(int(label_map.array.max()) + 1, -1)
        for label, name in names.items():
            if label < len(word_of):
                word_of[label] = words.index(organ_word(name))
        word = word_of[label_map.array]
        known = (label_map.array > 0) & (word >= 0)
        leaf = np.where(known, cell * len(words) + word + 1, 0)
        numbers = np.unique(leaf[leaf > 0]).tolist()
        pairs = [divmod(number - 1, len(words)) for number in numbers]
        return leaf, {
            n: f"{words[w]} at {cells[c]}" for n, (c, w) in zip(numbers, pairs, strict=True)
        }


def organ_word(name: str) -> str:
    """Name the organ of a label without its side or number.

    >>> [organ_word(name) for name in ("kidney_left", "vertebrae_L3", "rib_right_11", "colon")]
    ['Kidney', 'Vertebrae', 'Rib', 'Colon']
    """
    return _PART.sub("", _PART.sub("", name)).replace("_", " ").capitalize()


def with_halfway(heights: Mapping[str, float]) -> dict[str, float]:
    """Add the heights halfway between each level and the next.

    >>> with_halfway({"L1": 60.0, "L2": 30.0})
    {'L1': 60.0, 'L1-L2': 45.0, 'L2': 30.0}
    """
    levels = list(heights)
    result: dict[str, float] = {}
    for level, following in pairwise(levels):
        result[level] = heights[level]
        result[f"{level}-{following}"] = (heights[level] + heights[following]) / 2
    return result | {levels[-1]: heights[levels[-1]]}


def _heights(
    label_map: Scan, names: Mapping[int, str], levels: Mapping[str, Sequence[str]]
) -> tuple[dict[str, float], float]:
    """Give the mean height of each level that the map has, and where right of middle is 0, in mm.

    Raises:
        ValueError: If the map has none of the labels of the levels.
    """
    known = {name: label for label, name in names.items()}
    middle: dict[str, np.ndarray] = {}
    for level, labels in levels.items():
        chosen = [known[label] for label in labels if label in known]
        index = np.argwhere(np.isin(label_map.array, chosen))
        if len(index):
            ras = index.mean(axis=0)[::-1] @ label_map.affine[:3, :3].T + label_map.affine[:3, 3]
            middle[level] = ras
    if not middle:
        raise ValueError(
            f"{label_map.provenance.get('path')} has none of the labels that tell levels "
            f"({', '.join(label for labels in levels.values() for label in labels)}); give the "
            "names of its labels (data.source.names)"
        )
    across = float(np.mean([point[0] for point in middle.values()]))
    return {level: float(point[2]) for level, point in middle.items()}, across


def _cells(
    label_map: Scan, heights: Float[np.ndarray, " l"], middle_mm: float, central_mm: float
) -> Integer[np.ndarray, "d h w"]:
    """Number the cell of each voxel: level times three, and the side."""
    axes = np.ix_(*(np.arange(length, dtype=np.float64) for length in label_map.array.shape))
    right, up = (
        sum(axis * label_map.affine[row, 2 - k] for k, axis in enumerate(axes))
        + label_map.affine[row, 3]
        for row in (0, 2)
    )
    level = np.abs(np.asarray(up)[..., None] - heights).argmin(axis=-1)
    side = np.digitize(np.asarray(right) - middle_mm, (-central_mm, central_mm))
    return level * len(SIDES) + side
