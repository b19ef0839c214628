"""Distances of the slices of a series: even, even in zones, or with slices missing.

Head CT is often scanned in zones: thin slices at the skull base, thick ones above, and any distance
where two zones meet.
"""

from typing import NamedTuple

import numpy as np

from medvlp.data.readers.dicom_geometry import Stack
from medvlp.data.readers.registry import ReadError

_UNEVEN = 0.05  # of a distance
_MIN_ZONE = 3  # equal distances in a row: two could be two missing slices
_HOLE = 2 - 2 * _UNEVEN  # of the distance in the zones beside it: one slice fewer than there were
_SAME_PLACE = 1e-6  # of a distance


class _Zone(NamedTuple):
    """Equal distances in a row: those with the indices start <= i < stop."""

    start: int
    stop: int
    spacing_mm: float


def require_complete(stack: Stack, where: str) -> None:
    """Refuse a stack in which slices are missing.

    A distance is too large if it is about twice that of the zones beside it, where a zone is three
    or more equal distances in a row; without zones, if it is about twice the median.

    Raises:
        ReadError: That says how many are missing, and where the largest hole is.
    """
    gaps = np.diff(stack.heights_mm)
    usual = _usual(gaps, _zones(gaps))
    holes = gaps > _HOLE * usual
    if not holes.any():
        return
    missing = np.round(gaps / usual - 1)[holes]
    gap = int(np.where(holes, gaps / usual, 0).argmax())
    raise ReadError(
        f"{where}: {int(missing.sum())} slices are missing: slices are {usual[gap]:g} mm apart, "
        f"but between {stack.frames[gap].path.name} and {stack.frames[gap + 1].path.name} (at "
        f"{stack.heights_mm[gap]:g} and {stack.heights_mm[gap + 1]:g} mm) there are "
        f"{gaps[gap]:g} mm; fetch them again"
    )


def is_uneven(heights_mm: np.ndarray) -> bool:
    """Tell whether distances differ by more than 5 % from their median."""
    gaps = np.diff(heights_mm)
    return bool(np.abs(gaps - _median(gaps)).max() > _UNEVEN * _median(gaps))


def even_heights(heights_mm: np.ndarray) -> np.ndarray:
    """Lay an even grid through uneven slices.

    Its spacing is that of the finest zone, and slices of that zone lie on it: none of them is
    blended with others. Without zones it is the median distance, from the first slice on. The grid
    stays between the first slice and the last.

    Args:
        heights_mm: Increasing.

    >>> even_heights(np.array([0.0, 4.0, 8.0, 12.0, 13.0, 15.0, 17.0, 19.0]))
    array([ 1.,  3.,  5.,  7.,  9., 11., 13., 15., 17., 19.])
    """
    gaps = np.diff(heights_mm)
    zones = _zones(gaps)
    start, spacing = float(heights_mm[0]), _median(gaps)
    if zones:
        finest = min(zones, key=lambda zone: zone.spacing_mm)
        start, spacing = float(heights_mm[finest.start]), finest.spacing_mm
    below = int((start - heights_mm[0]) / spacing + _SAME_PLACE)
    above = int((heights_mm[-1] - start) / spacing + _SAME_PLACE)
    return start + spacing * np.arange(-below, above + 1)


def _zones(gaps: np.ndarray) -> list[_Zone]:
    zones, start = [], 0
    for stop in range(1, len(gaps) + 1):
        if stop == len(gaps) or abs(gaps[stop] - gaps[start]) > _UNEVEN * gaps[start]:
            if stop - start >= _MIN_ZONE:
                zones.append(_Zone(start, stop, float(gaps[start:stop].mean())))
            start = stop
    return zones


def _usual(gaps: np.ndarray, zones: list[_Zone]) -> np.ndarray:
    """Give what each distance is compared with: the larger one of the zones beside it."""
    if not zones:
        return np.full(len(gaps), _median(gaps))
    usual = np.zeros(len(gaps))
    for index in range(len(gaps)):
        before = [zone for zone in zones if zone.start <= index][-1:]
        after = [zone for zone in zones if zone.stop > index][:1]
        usual[index] = max(zone.spacing_mm for zone in before + after)
    return usual


def _median(gaps: np.ndarray) -> float:
    """Take the lower of the two in the middle: of two distances, the larger may be the hole."""
    return float(np.sort(gaps)[(len(gaps) - 1) // 2])
