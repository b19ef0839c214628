"""Where the slices of a series lie: sorted by position, checked for gaps, tilt and doubles."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medvlp.data.readers.registry import ReadError

_SAME_DIRECTION = 1e-3  # difference of direction cosines
_SAME_PLACE_MM = 1e-3
_UNEVEN = 0.05  # of the median distance of two slices
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


def require_even(stack: Stack, where: str) -> None:
    """Refuse a stack with a gap or with uneven distances.

    Raises:
        ReadError: That says where slices are missing, or between what the distances vary.
    """
    steps = np.diff(stack.heights_mm)
    usual = float(np.sort(steps)[(len(steps) - 1) // 2])
    if np.abs(steps - usual).max() <= _UNEVEN * usual:
        return
    multiples = np.round(steps / usual)
    if (multiples >= 1).all() and (np.abs(steps - multiples * usual) <= _UNEVEN * usual).all():
        gap = int(multiples.argmax())
        raise ReadError(
            f"{where}: {int(multiples.sum()) - len(steps)} slices are missing: slices are "
            f"{usual:g} mm apart, but between {stack.frames[gap].path.name} and "
            f"{stack.frames[gap + 1].path.name} (at {stack.heights_mm[gap]:g} and "
            f"{stack.heights_mm[gap + 1]:g} mm) there are {steps[gap]:g} mm; fetch them again"
        )
    raise ReadError(
        f"{where}: uneven spacing: slices are from {steps.min():.3g} to {steps.max():.3g} mm "
        "apart; resample the series to an even grid first, or leave it out"
    )


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


def straighten(array: np.ndarray, stack: Stack, fill: float) -> tuple[np.ndarray, np.ndarray]:
    """Shift the slices of a tilted stack so that they lie straight above each other.

    Each slice is moved within its plane, with linear interpolation, onto one common grid that is
    large enough to hold all of every slice; nothing is moved along the normal.

    Args:
        array: Axes (slices, rows, columns).
        stack: Where its slices lie.
        fill: What no slice covers.

    Returns:
        The straight volume, in the type of `array`, and its affine, see `affine_of`.
    """
    row_mm, column_mm = stack.frames[0].spacing_mm
    shifts = stack.shifts_mm[:, ::-1] / (row_mm, column_mm)  # voxels, rows then columns
    shifts = np.where(np.abs(shifts) < 1e-6, 0.0, shifts)
    start = np.floor(shifts.min(axis=0)).astype(int)
    stop = np.ceil(shifts.max(axis=0)).astype(int) + array.shape[1:]
    straight = np.empty((len(array), *(stop - start)), array.dtype)
    for slice_, shift, out in zip(array, shifts - start, straight, strict=True):
        moved = _shift(_shift(slice_.astype(np.float64), shift[0], out.shape[0], fill).T,
                       shift[1], out.shape[1], fill).T  # fmt: skip
        out[:] = np.round(moved) if array.dtype.kind in "iu" else moved
    affine = affine_of(stack)
    lps = np.array([-1.0, -1.0, 1.0])
    affine[:3, 2] = stack.frames[0].normal * stack.spacing_mm * lps
    affine[:3, 3] += affine[:3, 1] * start[0] + affine[:3, 0] * start[1]
    return straight, affine


def _shift(image: np.ndarray, shift: float, length: int, fill: float) -> np.ndarray:
    """Move an image along its first axis by `shift` >= 0 voxels into `length` voxels."""
    whole, part = int(shift), shift - int(shift)
    wide = np.full((length + 1, *image.shape[1:]), fill)
    wide[whole + 1 : whole + 1 + len(image)] = image
    # out[r] lies `part` of a voxel before its sample: between samples r - 1 and r
    return wide[1:] * (1 - part) + wide[:-1] * part if part else wide[1:]


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
