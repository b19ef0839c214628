"""NRRD and MetaImage (`.nrrd`, `.nhdr`, `.mha`, `.mhd`) through SimpleITK."""

import math
import os
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from medvlp.data.readers.inflate import MAX_RATIO
from medvlp.data.readers.registry import ReadError, reader
from medvlp.data.scan import Scan, orientation_of

MAX_BYTES = 16 * 2**30
"""Largest volume that is read."""

_MAX_HEADER_BYTES = 2**20
_MAX_SHEAR = 0.01  # cosine between two axes
_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_PATIENT_SPACES = {
    "left-posterior-superior", "lps", "right-anterior-superior", "ras",
    "left-anterior-superior", "las",
}  # fmt: skip
_BYTES = {
    **dict.fromkeys(("signed char", "int8", "int8_t", "unsigned char", "uchar", "uint8"), 1),
    **dict.fromkeys(("uint8_t", "met_char", "met_uchar"), 1),
    **dict.fromkeys(("short", "short int", "signed short", "int16", "int16_t", "ushort"), 2),
    **dict.fromkeys(("unsigned short", "uint16", "uint16_t", "met_short", "met_ushort"), 2),
    **dict.fromkeys(("int", "signed int", "int32", "int32_t", "uint", "unsigned int"), 4),
    **dict.fromkeys(("uint32", "uint32_t", "met_int", "met_uint", "float", "met_float"), 4),
    **dict.fromkeys(("longlong", "int64", "int64_t", "ulonglong", "uint64", "uint64_t"), 8),
    **dict.fromkeys(("met_long_long", "met_ulong_long", "double", "met_double"), 8),
}


@reader(".nrrd", ".nhdr")
def read_nrrd(path: Path) -> Scan:
    """Read an NRRD volume; without a patient space in its header the geometry is unknown.

    Raises:
        ImportError: If SimpleITK is missing.
        ReadError: If the file is damaged, claims more than it holds, is not one 3D volume of
            finite numbers, is sheared, or its header names a data file outside its folder.
    """
    header = _header(path, b"NRRD", ":")
    data = header.get("data file") or header.get("datafile")
    compressed = header.get("encoding", "raw") not in ("raw", "txt", "text", "ascii", "hex")
    _check(path, header.get("sizes", ""), header.get("type", ""), data, compressed)
    has_geometry = header.get("space", "").lower() in _PATIENT_SPACES
    return _read(path, "NrrdImageIO", has_geometry=has_geometry)


@reader(".mha", ".mhd")
def read_metaimage(path: Path) -> Scan:
    """Read a MetaImage volume, see `read_nrrd`; the format's default is the patient's LPS axes."""
    header = _header(path, b"", "=")
    data = header.get("elementdatafile", "")
    if not data:
        raise ReadError(f"{path}: not a MetaImage header: it has no ElementDataFile")
    if header.get("elementnumberofchannels", "1") != "1":
        raise ReadError(f"{path}: several channels per voxel, expected one number")
    compressed = header.get("compresseddata", "false").lower() == "true"
    own = None if data.upper() == "LOCAL" else data
    _check(path, header.get("dimsize", ""), header.get("elementtype", ""), own, compressed)
    return _read(path, "MetaImageIO", has_geometry=True)


def _header(path: Path, magic: bytes, separator: str) -> dict[str, str]:
    """Read "key: value" lines up to the first empty one, or to the one that names the data."""
    with path.open("rb") as file:
        start = file.read(_MAX_HEADER_BYTES)
    if not start:
        raise ReadError(f"{path}: the file has 0 bytes")
    if not start.startswith(magic):
        raise ReadError(f"{path}: not an NRRD file (it starts with {start[:4].hex()})")
    header: dict[str, str] = {}
    for line in start.split(b"\n"):
        text = os.fsdecode(line).strip()
        if not text:
            break
        key, found, value = text.partition(separator)
        if found and not key.startswith("#") and not value.startswith("="):
            header.setdefault(key.strip().lower(), value.strip())
        if key.strip().lower() == "elementdatafile":
            break
    return header


def _check(path: Path, sizes: str, kind: str, data: str | None, compressed: bool) -> None:
    """Refuse what the header alone shows to be wrong, before the library reads it."""
    try:
        lengths = [int(length) for length in sizes.split()]
    except ValueError:
        lengths = []
    if len(lengths) != 3 or min(lengths) < 1:
        raise ReadError(
            f"{path}: the header claims axes of length {sizes or 'unknown'}, expected one 3D "
            "volume; split other axes first"
        )
    if kind.lower() not in _BYTES:
        raise ReadError(f"{path}: unknown voxel type {kind!r}, expected one number per voxel")
    source = path if data is None else _beside(path, data)
    needed = math.prod(lengths) * _BYTES[kind.lower()]
    available = source.stat().st_size * (MAX_RATIO if compressed else 1)
    if needed > min(available, MAX_BYTES):
        raise ReadError(
            f"{path}: the header claims {' x '.join(map(str, lengths))} voxels ({needed:,} bytes), "
            f"more than {source.name} of {source.stat().st_size:,} bytes can hold: it is truncated "
            "or the header is wrong"
        )


def _beside(path: Path, name: str) -> Path:
    """Find the file that a header names; it must lie in the header's folder or below."""
    if name.upper().startswith("LIST") or "%" in name or len(name.split()) > 3:
        raise ReadError(f"{path}: voxels in a list of files ({name}) are not supported")
    parts = PurePosixPath(name.replace("\\", "/"))
    folder = path.parent.resolve()
    outside = parts.is_absolute() or ".." in parts.parts or "\0" in name
    if outside or not (folder / name).resolve().is_relative_to(folder):
        raise ReadError(f"{path}: its header names the data file {name!r}, outside its folder")
    if not (folder / name).is_file():
        raise ReadError(f"{path}: its data file {name!r} is not beside it")
    return folder / name


def _read(path: Path, library: str, *, has_geometry: bool) -> Scan:
    try:
        import SimpleITK as sitk  # noqa: N813 - the library's own idiom
    except ImportError as error:
        raise ImportError("NRRD and MHA need SimpleITK: pip install 'medvlp[formats]'") from error
    try:
        image = sitk.ReadImage(str(path), imageIO=library)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise ReadError(f"{path}: damaged file: {reason}") from error
    if image.GetNumberOfComponentsPerPixel() != 1 or image.GetDimension() != 3:
        raise ReadError(f"{path}: expected one 3D volume with one number per voxel")
    array = sitk.GetArrayFromImage(image)
    if array.dtype.kind == "f" and (count := int(array.size - np.isfinite(array).sum())):
        raise ReadError(
            f"{path}: {count:,} of {array.size:,} voxels are NaN or infinite; "
            "mend the file or leave it out"
        )
    provenance = {"path": str(path), "reader": "metaimage", "dtype": str(array.dtype)}
    if not has_geometry:
        return _unknown(array, provenance)
    affine = _affine(path, image)
    x, y, z = (float(length) for length in np.linalg.norm(affine[:3, :3], axis=0))
    return Scan(array, affine, (z, y, x), orientation_of(affine), provenance=provenance)


def _affine(path: Path, image: Any) -> np.ndarray:
    directions = np.array(image.GetDirection()).reshape(3, 3)
    affine = np.eye(4)
    affine[:3, :3] = directions * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    cosines = np.abs(np.triu(directions.T @ directions, 1)).max()
    if not np.isfinite(affine).all() or abs(np.linalg.det(directions)) < 1e-3:
        raise ReadError(f"{path}: the geometry is singular or not finite: {affine.tolist()}")
    if cosines > _MAX_SHEAR:
        raise ReadError(
            f"{path}: the grid is sheared: two axes meet at {math.degrees(math.acos(cosines)):.1f} "
            "degrees, as after a gantry tilt; resample it to a rectangular grid"
        )
    return _LPS @ affine


def _unknown(array: np.ndarray, provenance: Mapping[str, str]) -> Scan:
    return Scan(
        array=array,
        affine=np.full((4, 4), np.nan),
        spacing_mm=(math.nan, math.nan, math.nan),
        orientation="",
        provenance={**provenance, "geometry": "unknown: the header names no patient space"},
    )
