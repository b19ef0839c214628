"""Irregular slices onto a rectangular grid: shifted straight, resampled to even distances."""

import math

import numpy as np

from medvlp.data.readers.dicom_frames import MAX_BYTES
from medvlp.data.readers.dicom_geometry import Stack, affine_of
from medvlp.data.readers.registry import ReadError

_SAME_PLACE_MM = 1e-3


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


def resample_slices(
    array: np.ndarray, affine: np.ndarray, heights_mm: np.ndarray, even_mm: np.ndarray, where: str
) -> tuple[np.ndarray, np.ndarray]:
    """Interpolate linearly between slices, to even distances.

    Args:
        array: Axes (slices, rows, columns), slices straight above each other.
        affine: Of the array, its third column being the mean step from slice to slice.
        heights_mm: Of the slices, along the normal.
        even_mm: Of the slices wanted, between the first and the last of `heights_mm`.
        where: Names the series in messages.

    Returns:
        The even volume, in the type of `array` (integers rounded), and its affine.

    Raises:
        ReadError: If it would be too large.
    """
    if math.prod((len(even_mm), *array.shape[1:])) * array.dtype.itemsize > MAX_BYTES:
        raise ReadError(
            f"{where}: {len(even_mm)} slices every {even_mm[1] - even_mm[0]:.3g} mm of "
            f"{array.shape[1:]} voxels are too large"
        )
    even = np.empty((len(even_mm), *array.shape[1:]), array.dtype)
    above = np.clip(np.searchsorted(heights_mm, even_mm), 1, len(heights_mm) - 1)
    for index, height, out in zip(above, even_mm, even, strict=True):
        both = slice(index - 1, index + 1)
        out[:] = _between(array[both], heights_mm[both], height)
    mean_mm = (heights_mm[-1] - heights_mm[0]) / (len(heights_mm) - 1)
    per_mm = affine[:3, 2] / mean_mm
    moved = affine.copy()
    moved[:3, 2] = per_mm * (even_mm[-1] - even_mm[0]) / (len(even_mm) - 1)
    moved[:3, 3] += per_mm * (even_mm[0] - heights_mm[0])
    return even, moved


def _between(slices: np.ndarray, heights_mm: np.ndarray, height: float) -> np.ndarray:
    """Interpolate two slices; where one of them lies, it is taken as it is."""
    below, above = heights_mm
    if abs(height - below) < _SAME_PLACE_MM:
        return slices[0]
    if abs(height - above) < _SAME_PLACE_MM:
        return slices[1]
    part = (height - below) / (above - below)
    mixed = slices[0] * (1 - part) + slices[1] * part
    return np.round(mixed) if slices.dtype.kind in "iu" else mixed


def _shift(image: np.ndarray, shift: float, length: int, fill: float) -> np.ndarray:
    """Move an image along its first axis by `shift` >= 0 voxels into `length` voxels."""
    whole, part = int(shift), shift - int(shift)
    wide = np.full((length + 1, *image.shape[1:]), fill)
    wide[whole + 1 : whole + 1 + len(image)] = image
    # out[r] lies `part` of a voxel before its sample: between samples r - 1 and r
    return wide[1:] * (1 - part) + wide[:-1] * part if part else wide[1:]
