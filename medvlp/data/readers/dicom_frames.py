"""From headers to slices with a place, and from slices to numbers."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medvlp.data.readers.dicom_geometry import Frame
from medvlp.data.readers.registry import ReadError

MAX_BYTES = 16 * 2**30
"""Largest series that is read."""


def frames_of(path: Path, header: Any) -> list[Frame]:
    """List the slices of a file: one, or all frames of an enhanced multi-frame object.

    Raises:
        ReadError: If position, orientation or pixel spacing of a slice is missing or impossible.
    """
    count = int(header.get("NumberOfFrames") or 1)
    per_frame = header.get("PerFrameFunctionalGroupsSequence")
    if not per_frame:
        if count > 1:
            raise ReadError(
                f"{path}: {count} frames without positions: a film, or a kind of multi-frame "
                "object that does not say where its frames lie"
            )
        return [_frame(path, 0, header, [header])]
    if len(per_frame) != count:
        raise ReadError(f"{path}: {count} frames and the positions of {len(per_frame)}")
    shared = header.get("SharedFunctionalGroupsSequence") or []
    return [
        _frame(path, index, header, [*_groups(groups), *(g for s in shared for g in _groups(s))])
        for index, groups in enumerate(per_frame)
    ]


def decode(frames: Sequence[Frame], headers: dict[Path, Any]) -> np.ndarray:
    """Decode the pixels of slices, in their order.

    Args:
        frames: All of one size.
        headers: Of their files.

    Returns:
        Axes (slices, rows, columns), numbers as stored, in the smallest integer type that the
        files use.

    Raises:
        ReadError: If there is no decoder for the transfer syntax, or pixels are damaged, missing,
            or coloured.
    """
    from pydicom.pixels.utils import pixel_array

    for path, header in headers.items():
        require_decodable(path, header, path.stat().st_size)
    dtypes = {_dtype(path, header) for path, header in headers.items()}
    dtype, size = np.result_type(*dtypes), frames[0].size
    if math.prod((len(frames), *size)) * dtype.itemsize > MAX_BYTES:
        raise ReadError(f"{frames[0].path.parent}: {len(frames)} slices of {size} are too large")
    array = np.empty((len(frames), *size), dtype)
    whole: dict[Path, np.ndarray] = {}  # a multi-frame file is decoded once
    for frame, out in zip(frames, array, strict=True):
        if frame.path not in whole:
            whole.clear()
            try:
                whole[frame.path] = pixel_array(frame.path, raw=True).reshape(-1, *size)
            except Exception as error:  # each decoder has errors of its own
                raise ReadError(_undecodable(frame.path, headers[frame.path], error)) from error
        out[:] = whole[frame.path][frame.index]
    return array


def _undecodable(path: Path, header: Any, error: Exception) -> str:
    told = f"{path}: damaged or truncated pixel data"
    syntax = header.file_meta.TransferSyntaxUID
    if not syntax.is_compressed:
        return f"{told}: {error}; fetch it again"
    return (
        f"{told}, or a kind of {syntax.name} that no installed decoder knows: "
        f"{' '.join(str(error).split())}; fetch it again, or install another decoder (12-bit JPEG: "
        "pip install pylibjpeg pylibjpeg-libjpeg)"
    )


def _groups(item: Any) -> list[Any]:
    """Unpack the functional groups of a frame: each is a sequence of one data set."""
    return [element.value[0] for element in item if element.VR == "SQ" and element.value]


def _frame(path: Path, index: int, header: Any, sources: Sequence[Any]) -> Frame:
    position = _numbers(path, "ImagePositionPatient", sources, 3)
    cosines = _numbers(path, "ImageOrientationPatient", sources, 6).reshape(2, 3)
    spacing = _numbers(path, "PixelSpacing", sources, 2)
    lengths = np.linalg.norm(cosines, axis=1)
    if np.abs(lengths - 1).max() > 0.01 or abs(cosines[0] @ cosines[1]) > 0.01:
        raise ReadError(
            f"{path}: ImageOrientationPatient is {cosines.ravel().tolist()}, expected two unit "
            "vectors at a right angle"
        )
    if spacing.min() <= 0:
        raise ReadError(f"{path}: PixelSpacing is {spacing.tolist()}, expected mm above 0")
    slope = _number(path, "RescaleSlope", sources, 1.0)
    if slope == 0:
        raise ReadError(f"{path}: RescaleSlope is 0: all voxels would be equal")
    return Frame(
        path=path,
        index=index,
        uid=str(header.get("SOPInstanceUID", "")),
        size=(int(header.Rows), int(header.Columns)),
        position=position,
        directions=cosines / lengths[:, None],
        spacing_mm=(float(spacing[0]), float(spacing[1])),
        slope=slope,
        intercept=_number(path, "RescaleIntercept", sources, 0.0),
    )


def _numbers(path: Path, name: str, sources: Sequence[Any], count: int) -> np.ndarray:
    value = next((source.get(name) for source in sources if source.get(name)), None)
    if value is None:
        raise ReadError(
            f"{path}: {name} is missing: a single 2D image, or a header that was stripped too far"
        )
    try:
        numbers = np.array([float(number) for number in value])
    except (TypeError, ValueError) as error:
        raise ReadError(f"{path}: {name} is {value!r}, expected numbers") from error
    if numbers.shape != (count,) or not np.isfinite(numbers).all():
        raise ReadError(f"{path}: {name} is {numbers.tolist()}, expected {count} finite numbers")
    return numbers


def _number(path: Path, name: str, sources: Sequence[Any], default: float) -> float:
    values = [source.get(name) for source in sources if source.get(name) not in (None, "")]
    try:
        number = float(values[0]) if values else default
    except (TypeError, ValueError) as error:
        raise ReadError(f"{path}: {name} is {values[0]!r}, expected a number") from error
    if not math.isfinite(number):
        raise ReadError(f"{path}: {name} is {number}")
    return number


def _dtype(path: Path, header: Any) -> np.dtype:
    if int(header.get("SamplesPerPixel") or 1) != 1:
        raise ReadError(f"{path}: a colour image; a volume has one number per voxel")
    bits = int(header.get("BitsAllocated") or 0)
    if bits not in (8, 16, 32):
        raise ReadError(f"{path}: {bits} bits per voxel, expected 8, 16 or 32")
    return np.dtype(f"{'i' if header.get('PixelRepresentation') else 'u'}{bits // 8}")


def require_decodable(path: Path, header: Any, file_bytes: int) -> None:
    """Refuse a file for which there is no decoder, or which is too short for its pixels.

    Raises:
        ReadError: That names the transfer syntax and what to install, or the sizes.
    """
    from pydicom.pixels.decoders.base import get_decoder

    syntax = header.file_meta.get("TransferSyntaxUID")
    if syntax is None:
        raise ReadError(f"{path}: the header does not name the transfer syntax")
    try:
        available = get_decoder(syntax).is_available
    except NotImplementedError:
        available = False
    if not available:
        raise ReadError(
            f"{path}: no decoder for the transfer syntax {syntax.name} ({syntax}); install one "
            "with pip install 'medvlp[dicom]'"
        )
    if syntax.is_compressed:
        return
    count = int(header.get("NumberOfFrames") or 1)
    needed = count * int(header.Rows) * int(header.Columns) * int(header.get("BitsAllocated") or 0)
    needed *= int(header.get("SamplesPerPixel") or 1)
    if needed // 8 > file_bytes:
        raise ReadError(
            f"{path}: truncated pixel data: the header claims {count} x {header.Rows} x "
            f"{header.Columns} voxels ({needed // 8:,} bytes), the file has "
            f"{file_bytes:,}; fetch it again"
        )
