"""Places that a label map of the trunk holds twice over: which organ, and at which level and side.

Radiologists say "colon, left, at the level of L3". The organ is seen close by; level and side take
a view of the whole trunk, for organs that run through it look alike at all levels.
"""

import re
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Int, Integer

from medvlp.data.anatomy_lesions import AnatomyLesions
from medvlp.data.scan import Scan

LEVELS = {
    "T12": ("vertebrae_T12",),
    "L1": ("vertebrae_L1",),
    "L2": ("vertebrae_L2",),
    "L3": ("vertebrae_L3",),
    "L4": ("vertebrae_L4",),
    "L5": ("vertebrae_L5",),
    "S1": ("vertebrae_S1",),
    "hip bone": ("hip_left", "hip_right"),
    "femur": ("femur_left", "femur_right"),
}
"""Level to the labels at whose mean height it is, names of TotalSegmentator; nearest one counts."""

SIDES = ("left", "central", "right")
_CENTRAL_MM = 36.0  # from the middle of the vertebrae to either side
_PART = re.compile(r"_(left|right)\b|_[CTLS]\d+$|_\d+$")


class LevelLesions(AnatomyLesions):
    """Lesions whose places are an organ at a level and side, by a label map of TotalSegmentator.

    See `AnatomyLesions`. Final names are like "Colon at left L3".
    """

    def leaves(
        self, label_map: Scan, names: Mapping[int, str]
    ) -> tuple[Int[np.ndarray, "d h w"], dict[int, str]]:
        """Number the pairs of cell and organ."""
        heights, right_mm = _heights(label_map, names)
        cells = [f"{side} {level}" for level in heights for side in SIDES]
        cell = _cells(label_map, np.array([*heights.values()]), right_mm)
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


def _heights(label_map: Scan, names: Mapping[int, str]) -> tuple[dict[str, float], float]:
    """Give the mean height of each level that the map has, and where right of middle is 0, in mm.

    Raises:
        ValueError: If the map has none of the labels of the levels.
    """
    known = {name: label for label, name in names.items()}
    middle: dict[str, np.ndarray] = {}
    for level, labels in LEVELS.items():
        chosen = [known[label] for label in labels if label in known]
        index = np.argwhere(np.isin(label_map.array, chosen))
        if len(index):
            ras = index.mean(axis=0)[::-1] @ label_map.affine[:3, :3].T + label_map.affine[:3, 3]
            middle[level] = ras
    if not middle:
        raise ValueError(
            f"{label_map.provenance.get('path')} has no vertebra, hip bone or femur to tell levels "
            "by; give the names of TotalSegmentator's labels (data.source.names)"
        )
    across = float(np.mean([point[0] for point in middle.values()]))
    return {level: float(point[2]) for level, point in middle.items()}, across


def _cells(
    label_map: Scan, heights: Float[np.ndarray, " l"], middle_mm: float
) -> Integer[np.ndarray, "d h w"]:
    """Number the cell of each voxel: level times three, and the side."""
    axes = np.ix_(*(np.arange(length, dtype=np.float64) for length in label_map.array.shape))
    right, up = (
        sum(axis * label_map.affine[row, 2 - k] for k, axis in enumerate(axes))
        + label_map.affine[row, 3]
        for row in (0, 2)
    )
    level = np.abs(np.asarray(up)[..., None] - heights).argmin(axis=-1)
    side = np.digitize(np.asarray(right) - middle_mm, (-_CENTRAL_MM, _CENTRAL_MM))
    return level * len(SIDES) + side
