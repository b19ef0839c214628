"""NIfTI: `.nii` and `.nii.gz`, inflated into the array itself, integers kept as integers."""

import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from medvlp.data.readers.inflate import GZIP_MAGIC, MAX_RATIO, DamagedStreamError, inflate_into
from medvlp.data.readers.registry import ReadError, reader
from medvlp.data.scan import Rescale, Scan, orientation_of

MAX_BYTES = 16 * 2**30
"""Largest volume that is read; a 1024 x 1024 x 1000 CT in int16 has 2 GiB."""

_NIFTI1_BYTES, _NIFTI2_BYTES = 348, 540
_START_BYTES = 1024  # holds the header of either version
_MAX_SHEAR = 0.01  # cosine between two axes; a gantry tilt of 0.6 degrees


@dataclass(frozen=True)
class _Layout:
    """What the header says of the bytes that follow."""

    header: Any
    size: tuple[int, ...]
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
        The array is in storage order, axes (k, j, i).

    Raises:
        ReadError: If the file is truncated, its header claims another size than it has, it is
            not one 3D volume, the affine is non-finite, singular or sheared, or voxels are NaN or
            infinite.
    """
    layout, array = _read(path, max_axes=3)
    return _scan(path, layout, array, _rescale(path, layout.header))


def read_nifti_channels(path: Path) -> tuple[Scan, ...]:
    """Read a volume of several channels, as diffusion series have, into one scan for each.

    Args:
        path: A NIfTI file of three or four axes.

    Returns:
        One scan per step of the fourth axis, voxels in float64 with the header's slope and
        intercept applied.

    Raises:
        ReadError: As `read_nifti`, but for the fourth axis.
    """
    layout, array = _read(path, max_axes=4)
    rescale = _rescale(path, layout.header)
    channels = array.reshape(-1, *array.shape[-3:]).astype(np.float64)
    if not rescale.is_identity:
        channels *= rescale.slope
        channels += rescale.intercept
    return tuple(_scan(path, layout, channel, Rescale()) for channel in channels)


def read_nifti_stack(path: Path) -> Scan:
    """Read a volume of one channel as `read_nifti` does, of several as an array (c, d, h, w).

    Args:
        path: A NIfTI file of three or four axes.

    Raises:
        ReadError: As `read_nifti`, but for the fourth axis.
    """
    layout, array = _read(path, max_axes=4)
    if math.prod(array.shape[:-3]) == 1:
        array = array.reshape(array.shape[-3:])
    return _scan(path, layout, array, _rescale(path, layout.header))


def _read(path: Path, *, max_axes: int) -> tuple[_Layout, np.ndarray]:
    num_bytes_on_disk = path.stat().st_size
    if not num_bytes_on_disk:
        raise ReadError(f"{path}: the file has 0 bytes")
    with path.open("rb") as file:
        compressed = file.read(2) == GZIP_MAGIC
        start = np.zeros(_START_BYTES, np.uint8)
        found = _fill(path, file, start, compressed)
        layout = _layout(path, start[:found].tobytes(), max_axes)
        if layout.num_bytes > min(num_bytes_on_disk * (MAX_RATIO if compressed else 1), MAX_BYTES):
            raise ReadError(
                f"{path}: the header claims {_shape(layout)} voxels ({layout.num_bytes:,} bytes), "
                f"more than a file of {num_bytes_on_disk:,} bytes can hold: it is truncated or its "
                "header is wrong"
            )
        data = np.empty(layout.num_bytes, np.uint8)
        found = _fill(path, file, data, compressed)
    if found != layout.num_bytes:
        amount = "only" if found < layout.num_bytes else "at least"
        raise ReadError(
            f"{path}: the header claims {_shape(layout)} voxels ({layout.num_bytes:,} bytes), the "
            f"file holds {amount} {found:,}: it is truncated or its header is wrong"
        )
    array = data[layout.offset :].view(layout.dtype).reshape(layout.size)
    if not array.dtype.isnative:
        array = array.byteswap(inplace=True).view(array.dtype.newbyteorder("="))
    _check_finite(path, array)
    return layout, array


def _fill(
    path: Path, file: io.BufferedReader, out: UInt8[np.ndarray, " n"], compressed: bool
) -> int:
    """Fill `out` from the start of the file; return how much the file holds, see `inflate_into`."""
    file.seek(0)
    if not compressed:
        return file.readinto(out.data) + len(file.read(1))
    try:
        return inflate_into(file, out)
    except DamagedStreamError as error:
        raise ReadError(f"{path}: damaged gzip stream ({error}); fetch it again") from error


def _layout(path: Path, start: bytes, max_axes: int) -> _Layout:
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
    size = _size(path, header, max_axes)
    if int(header["sizeof_hdr"]) != num_bytes:
        raise ReadError(f"{path}: header fields in different byte orders (wrong byte order?)")
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


def _size(path: Path, header: Any, max_axes: int) -> tuple[int, ...]:
    """Give the lengths of the array's axes, slowest first, without trailing axes of length 1."""
    num_axes, *lengths = (int(length) for length in header["dim"])
    if not 1 <= num_axes <= 7:
        raise ReadError(f"{path}: the header claims {num_axes} axes (wrong byte order?)")
    lengths = lengths[:num_axes]
    if num_axes < 3 or any(length != 1 for length in lengths[max_axes:]):
        expected = "one 3D volume; split a time or channel axis into files first"
        raise ReadError(
            f"{path}: the array is {' x '.join(map(str, lengths))}, expected "
            f"{expected if max_axes == 3 else 'one 3D volume or several channels of one'}"
        )
    if min(lengths) < 1:
        raise ReadError(f"{path}: the header claims axes of length {lengths}")
    return tuple(reversed(lengths[:max_axes]))


def _scan(path: Path, layout: _Layout, array: np.ndarray, rescale: Rescale) -> Scan:
    affine = _affine(path, layout.header)
    x, y, z = (float(length) for length in np.linalg.norm(affine[:3, :3], axis=0))
    return Scan(
        array=array,
        affine=affine,
        spacing_mm=(z, y, x),
        orientation=orientation_of(affine),
        rescale=rescale,
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
    cosines = np.abs(np.triu((affine[:3, :3] / lengths).T @ (affine[:3, :3] / lengths), 1))
    if cosines.max() > _MAX_SHEAR:
        raise ReadError(
            f"{path}: the affine is sheared: two axes meet at "
            f"{math.degrees(math.acos(min(cosines.max(), 1.0))):.1f} degrees, as after a gantry "
            "tilt, so its voxels are no boxes; resample it to a rectangular grid, or import the "
            'DICOM series with irregular="correct"'
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
    with np.errstate(all="ignore"):
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
