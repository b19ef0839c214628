"""NIfTI: `.nii` and `.nii.gz`, inflated in one call, integers kept as integers."""

import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medvlp.data.readers.registry import ReadError, reader
from medvlp.data.scan import Rescale, Scan, orientation_of
from medvlp.types import Size3D

MAX_BYTES = 16 * 2**30
"""Largest volume that is read; a 1024 x 1024 x 1000 CT in int16 has 2 GiB."""

_DEFLATE_LIMIT = 1032  # deflate cannot shrink by more: a header that claims more is lying
_NIFTI1_BYTES, _NIFTI2_BYTES = 348, 540
_GZIP = b"\x1f\x8b"


@dataclass(frozen=True)
class _Layout:
    """What the header says of the bytes that follow."""

    header: Any
    size: Size3D
    dtype: np.dtype
    offset: int

    @property
    def num_bytes(self) -> int:
        return self.offset + math.prod(self.size) * self.dtype.itemsize


@reader(".nii", ".nii.gz")
def read_nifti(path: Path) -> Scan:
    """Read a NIfTI-1 or NIfTI-2 volume; the header is checked before anything is allocated.

    Args:
        path: Gzip is recognised by content, not by name.

    Returns:
        The array is in storage order, axes (k, j, i), without a copy for little-endian files;
        it may be read-only.

    Raises:
        ReadError: If the file is truncated, its header claims another size than it has, it is
            not one 3D volume, the affine is non-finite or singular, or voxels are NaN or infinite.
    """
    data = path.read_bytes()
    if not data:
        raise ReadError(f"{path}: the file has 0 bytes")
    compressed = data[:2] == _GZIP
    layout = _layout(path, _inflate(path, data, 1024) if compressed else data)
    ratio = _DEFLATE_LIMIT if compressed else 1
    if layout.num_bytes > min(len(data) * ratio, MAX_BYTES):
        raise ReadError(
            f"{path}: the header claims {_shape(layout)} voxels ({layout.num_bytes:,} bytes), more "
            f"than a file of {len(data):,} bytes can hold: it is truncated or its header is wrong"
        )
    if compressed:
        data = _inflate(path, data, layout.num_bytes + 1)
    if len(data) != layout.num_bytes:
        amount = "only" if len(data) < layout.num_bytes else "at least"
        raise ReadError(
            f"{path}: the header claims {_shape(layout)} voxels ({layout.num_bytes:,} bytes), the "
            f"file holds {amount} {len(data):,}: it is truncated or its header is wrong"
        )
    array = np.frombuffer(data, layout.dtype, offset=layout.offset).reshape(layout.size)
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    _check_finite(path, array)
    return _scan(path, layout, array)


def _inflate(path: Path, data: bytes, max_bytes: int) -> bytes:
    from isal import isal_zlib

    damaged: Any = isal_zlib.error
    parts: list[bytes] = []
    while data and max_bytes > 0:
        stream = isal_zlib.decompressobj(wbits=31)
        try:
            parts.append(stream.decompress(data, max_bytes))
        except damaged as error:
            raise ReadError(f"{path}: damaged gzip stream ({error}); fetch it again") from error
        max_bytes -= len(parts[-1])
        # gzip files may be several streams in a row; what is no stream is padding
        data = stream.unused_data if stream.unused_data[:2] == _GZIP else b""
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _layout(path: Path, start: bytes) -> _Layout:
    from nibabel.nifti1 import Nifti1Header
    from nibabel.nifti2 import Nifti2Header
    from nibabel.spatialimages import HeaderDataError

    if len(start) < 4:
        raise ReadError(f"{path}: truncated: the gzip stream ends before the header")
    sizes = {int.from_bytes(start[:4], "little"), int.from_bytes(start[:4], "big")}
    if sizes & {_NIFTI2_BYTES}:
        kind, num_bytes = Nifti2Header, _NIFTI2_BYTES
    elif sizes & {_NIFTI1_BYTES}:
        kind, num_bytes = Nifti1Header, _NIFTI1_BYTES
    else:
        raise ReadError(f"{path}: not a NIfTI file (it starts with {start[:4].hex()})")
    if len(start) < num_bytes:
        raise ReadError(f"{path}: the file ends inside the header ({len(start)} bytes)")
    header: Any = kind.from_fileobj(io.BytesIO(start[:num_bytes]), check=False)
    if header["magic"].item().rstrip(b"\0")[:2] != b"n+":
        raise ReadError(f"{path}: voxels in a separate file (.hdr/.img) are not supported")
    size = _size(path, header)
    try:
        dtype = header.get_data_dtype()
    except (HeaderDataError, KeyError) as error:
        raise ReadError(f"{path}: unknown voxel type: {error}") from error
    if dtype.kind not in "iuf":
        raise ReadError(f"{path}: voxels are {dtype}, expected one integer or real number each")
    offset = float(header["vox_offset"].item())
    if not num_bytes <= offset < 2**31:
        raise ReadError(f"{path}: voxels start at byte {offset}, inside or before the header")
    return _Layout(header, size, dtype, int(offset))


def _size(path: Path, header: Any) -> Size3D:
    num_axes, *lengths = (int(length) for length in header["dim"])
    if not 1 <= num_axes <= 7:
        raise ReadError(f"{path}: the header claims {num_axes} axes (wrong byte order?)")
    lengths = lengths[:num_axes]
    if num_axes < 3 or any(length != 1 for length in lengths[3:]):
        raise ReadError(
            f"{path}: the array is {' x '.join(map(str, lengths))}, expected one 3D volume; "
            "split a time or channel axis into files first"
        )
    if min(lengths) < 1:
        raise ReadError(f"{path}: the header claims axes of length {lengths}")
    return lengths[2], lengths[1], lengths[0]


def _scan(path: Path, layout: _Layout, array: np.ndarray) -> Scan:
    affine = _affine(path, layout.header)
    x, y, z = (float(length) for length in np.linalg.norm(affine[:3, :3], axis=0))
    return Scan(
        array=array,
        affine=affine,
        spacing_mm=(z, y, x),
        orientation=orientation_of(affine),
        rescale=_rescale(path, layout.header),
        provenance={"path": str(path), "reader": "nifti", "dtype": str(array.dtype)},
    )


def _affine(path: Path, header: Any) -> np.ndarray:
    from nibabel.spatialimages import HeaderDataError

    try:
        affine = np.asarray(header.get_best_affine(), dtype=np.float64)
    except (HeaderDataError, ValueError) as error:
        raise ReadError(f"{path}: the header has no usable geometry: {error}") from error
    if not np.isfinite(affine).all():
        raise ReadError(f"{path}: the affine has non-finite numbers: {affine.tolist()}")
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if lengths.min() < 1e-6 or abs(np.linalg.det(affine[:3, :3] / lengths)) < 1e-3:
        raise ReadError(
            f"{path}: the affine is singular, so axes or spacing are unknown: {affine.tolist()}"
        )
    return affine


def _rescale(path: Path, header: Any) -> Rescale:
    slope, intercept = (float(header[name]) for name in ("scl_slope", "scl_inter"))
    if slope == 0 or math.isnan(slope):  # the format's ways to say "none"
        return Rescale()
    intercept = 0.0 if math.isnan(intercept) else intercept
    if not math.isfinite(slope) or not math.isfinite(intercept):
        raise ReadError(f"{path}: rescale slope {slope} and intercept {intercept} are not finite")
    return Rescale(slope, intercept)


def _check_finite(path: Path, array: np.ndarray) -> None:
    if array.dtype.kind != "f" or math.isfinite(float(array.sum(dtype=np.float64))):
        return
    count = int(array.size - np.isfinite(array).sum())
    if count:
        raise ReadError(
            f"{path}: {count:,} of {array.size:,} voxels are NaN or infinite; "
            "mend the file or leave it out"
        )


def _shape(layout: _Layout) -> str:
    return " x ".join(str(length) for length in reversed(layout.size))
