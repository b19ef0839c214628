"""Where the slices of a series lie: sorted by position, checked for tilt and doubles."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medvlp.data.readers.registry import ReadError

_SAME_DIRECTION = 1e-3  # difference of direction cosines
_SAME_PLACE_MM = 1e-3
_MAX_TILT = 0.01  # sine: 0.6 degrees


@dataclass(frozen=True, eq=False)
class Frame:
    """One slice: a file, or one frame of a multi-frame file.

    Attributes:
        path: The file.
        index: Of the frame in the file, from 0.
        uid: SOP Instance UID of the file.
        size: Rows, columns.
        position: Centre of the first voxel, mm, DICOM's LPS world.
        directions: (2, 3): unit vectors of increasing column and of increasing row.
        spacing_mm: Distance of rows, distance of columns.
        slope: Of the rule from stored numbers to values.
        intercept: Of the same.
    """

    path: Path
    index: int
    uid: str
    size: tuple[int, int]
    position: np.ndarray
    directions: np.ndarray
    spacing_mm: tuple[float, float]
    slope: float = 1.0
    intercept: float = 0.0

    @property
    def normal(self) -> np.ndarray:
        """Unit vector through the slices: up for axial slices in the usual orientation."""
        return np.cross(self.directions[0], self.directions[1])


@dataclass(frozen=True, eq=False)
class Stack:
    """Slices in the order of their position.

    Attributes:
        frames: Sorted along the normal.
        heights_mm: Position along the normal.
        shifts_mm: (n, 2): how far each slice lies off the first one's normal, towards higher
            columns and towards higher rows.
        num_dropped: Files that were there twice.
    """

    frames: tuple[Frame, ...]
    heights_mm: np.ndarray
    shifts_mm: np.ndarray
    num_dropped: int

    @property
    def spacing_mm(self) -> float:
        """Distance of two slices along the normal."""
        return float(self.heights_mm[-1] - self.heights_mm[0]) / (len(self.frames) - 1)

    @property
    def tilt_degrees(self) -> float:
        """Angle between the normal and the way from the first slice to the last."""
        return math.degrees(
            math.atan2(
                float(np.linalg.norm(self.shifts_mm[-1])),
                float(self.heights_mm[-1] - self.heights_mm[0]),
            )
        )

    @property
    def is_tilted(self) -> bool:
        """Whether the slices do not lie straight above each other."""
        steps = np.linalg.norm(np.diff(self.shifts_mm, axis=0), axis=1)
        return bool((steps > _MAX_TILT * np.diff(self.heights_mm)).any())


def stack_frames(frames: Sequence[Frame], where: str) -> Stack:
    """Sort slices by position along their common normal.

    Args:
        frames: Of one series, in any order.
        where: Names the series in messages.

    Raises:
        ReadError: If they do not form one stack: sizes or orientations differ, or two different
            images claim the same place.
    """
    unique = _without_copies(frames, where)
    _require_alike(unique, where)
    normal = unique[0].normal
    unique.sort(key=lambda frame: float(frame.position @ normal))
    heights = np.array([frame.position @ normal for frame in unique])
    same = np.flatnonzero(np.diff(heights) < _SAME_PLACE_MM)
    if len(same):
        one, other = unique[same[0]], unique[same[0] + 1]
        raise ReadError(
            f"{where}: {len(same)} of {len(unique)} images lie at the place of another one, the "
            f"first {one.path.name} and {other.path.name} at {heights[same[0]]:g} mm: several "
            "phases, echoes or reconstructions in one series? Name the files of one of them"
        )
    if len(unique) == 1:
        raise ReadError(f"{where}: only 1 slice; name the folder, or all files of the series")
    offsets = np.stack([frame.position for frame in unique]) - unique[0].position
    shifts = offsets @ unique[0].directions.T
    return Stack(tuple(unique), heights, shifts, len(frames) - len(unique))


def affine_of(stack: Stack) -> np.ndarray:
    """Give the 4x4 matrix from voxel index (column, row, slice) to millimetres in RAS+."""
    first, last = stack.frames[0], stack.frames[-1]
    affine = np.eye(4)
    affine[:3, 0] = first.directions[0] * first.spacing_mm[1]
    affine[:3, 1] = first.directions[1] * first.spacing_mm[0]
    affine[:3, 2] = (last.position - first.position) / (len(stack.frames) - 1)
    affine[:3, 3] = first.position
    affine[:2] *= -1  # DICOM's x and y run to the patient's left and back, NIfTI's the other way
    return affine


def _without_copies(frames: Sequence[Frame], where: str) -> list[Frame]:
    """Keep one of each instance; copies that differ are an error."""
    kept: dict[tuple[str, int], Frame] = {}
    for frame in frames:
        first = kept.setdefault((frame.uid or str(frame.path), frame.index), frame)
        if first is not frame and (
            first.size != frame.size or np.abs(first.position - frame.position).max() > 1e-6
        ):
            raise ReadError(
                f"{where}: {first.path.name} and {frame.path.name} have the same SOP Instance UID "
                "and different positions: one of them was altered"
            )
    return list(kept.values())


def _require_alike(frames: Sequence[Frame], where: str) -> None:
    sizes = Counter(frame.size for frame in frames)
    if len(sizes) > 1:
        found = ", ".join(f"{n} of {r} x {c}" for (r, c), n in sizes.most_common())
        raise ReadError(f"{where}: images of mixed size: {found}; name the files of one size")
    first = frames[0]
    turned = [f for f in frames if np.abs(f.directions - first.directions).max() > _SAME_DIRECTION]
    if turned:
        raise ReadError(
            f"{where}: mixed orientation: {len(turned)} of {len(frames)} images are turned against "
            f"{first.path.name}, the first of them {turned[0].path.name}; name the files of one"
        )
    spacings = {tuple(round(length, 4) for length in frame.spacing_mm) for frame in frames}
    if len(spacings) > 1:
        raise ReadError(f"{where}: images of mixed pixel spacing: {sorted(spacings)} mm")
