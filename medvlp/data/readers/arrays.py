"""Bare arrays of published pipelines: `.npz`, `.npy`, `.pt`. They say nothing of their geometry."""

import math
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medvlp.data.readers.inflate import MAX_RATIO
from medvlp.data.readers.registry import ReadError, reader
from medvlp.data.scan import Scan

MAX_BYTES = 16 * 2**30
"""Largest array that is read."""

_PREFERRED_KEYS = ("ct", "image", "arr_0")  # Rad-ChestCT; others; what numpy.savez calls it
_UNKNOWN = "unknown: the data set must state spacing and orientation"


@reader(".npz")
def read_npz(path: Path, *, key: str | None = None) -> Scan:
    """Read a volume from a NumPy archive.

    Args:
        path: The file; its header is checked before anything is allocated.
        key: Of the array; None takes the only one, or the one named "ct", "image" or "arr_0".

    Returns:
        Geometry unknown: affine and spacing are NaN, see `Scan.restated`.

    Raises:
        ReadError: If there is no such array, it holds Python objects (never unpickled), is not
            one 3D volume of finite numbers, or the archive is damaged or claims too much.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist()]
            name = _choose_key(path, names, key)
            info = archive.getinfo(f"{name}.npy" if f"{name}.npy" in archive.namelist() else name)
            with archive.open(info) as file:
                array = _read_npy(path, file, min(info.file_size, info.compress_size * MAX_RATIO))
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise ReadError(f"{path}: damaged NumPy archive: {error}; fetch it again") from error
    return _bare_scan(path, array, reader="npz", key=name)


@reader(".npy")
def read_npy(path: Path) -> Scan:
    """Read a volume from a NumPy file, see `read_npz`."""
    with path.open("rb") as file:
        array = _read_npy(path, file, path.stat().st_size)
    return _bare_scan(path, array, reader="npy")


def read_array(path: Path) -> np.ndarray:
    """Read an array of any shape from a NumPy file (.npy), as safely as `read_npz`.

    Raises:
        FileNotFoundError: If there is no such file.
        ReadError: If it does not hold real numbers, or is damaged.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there")
    with path.open("rb") as file:
        array = _read_npy(path, file, path.stat().st_size)
    if array.dtype.kind not in "iuf":
        raise ReadError(f"{path}: numbers are {array.dtype}, expected integers or real numbers")
    return array


@reader(".pt", ".pth")
def read_pt(path: Path) -> Scan:
    """Read a volume from a stored PyTorch tensor; nothing in the file is executed.

    Raises:
        ReadError: If the file holds anything but one tensor of finite numbers, 3D but for axes of
            length 1 before it, or is damaged.
    """
    import torch

    _refuse_bomb(path)
    try:
        tensor = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # unpickling fails in any way that the bytes can be wrong
        raise ReadError(
            f"{path}: not a tensor that can be loaded safely (weights_only): "
            f"{str(error).splitlines()[0] if str(error) else type(error).__name__}"
        ) from error
    if not isinstance(tensor, torch.Tensor) or tensor.layout != torch.strided:
        raise ReadError(f"{path}: holds a {type(tensor).__name__}, expected one tensor (d, h, w)")
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise ReadError(f"{path}: a tensor of {tuple(tensor.shape)} with fewer numbers than that")
    try:
        array = tensor.detach().contiguous().numpy()
    except TypeError as error:
        raise ReadError(f"{path}: numbers of {tensor.dtype} are not supported") from error
    return _bare_scan(path, array, reader="pt")


def _refuse_bomb(path: Path) -> None:
    if path.stat().st_size == 0:
        raise ReadError(f"{path}: the file has 0 bytes")
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        claimed = sum(info.file_size for info in archive.infolist())
    # torch stores without compression
    if claimed > min(path.stat().st_size, MAX_BYTES):
        raise ReadError(f"{path}: claims to hold {claimed:,} bytes, more than it can")


def _choose_key(path: Path, names: Sequence[str], key: str | None) -> str:
    if not names:
        raise ReadError(f"{path}: an archive without an array")
    candidates = [key] if key else [*_PREFERRED_KEYS, *(names if len(names) == 1 else ())]
    for name in candidates:
        if name in names:
            return name
    wanted = f"no array {key!r}" if key else "several arrays, none called ct, image or arr_0"
    raise ReadError(f"{path}: {wanted}; it has {', '.join(sorted(names)[:8])}")


def _read_npy(path: Path, file: Any, max_bytes: int) -> np.ndarray:
    """Read an array whose header claims no more than `max_bytes`."""
    shape, fortran_order, dtype = _npy_header(path, file)
    if dtype.hasobject:
        raise ReadError(f"{path}: an array of Python objects is never loaded: it can run code")
    count = math.prod(shape)
    if count * dtype.itemsize > min(max_bytes, MAX_BYTES):
        raise ReadError(
            f"{path}: the header claims {' x '.join(map(str, shape))} numbers of {dtype} "
            f"({count * dtype.itemsize:,} bytes), more than the file can hold: it is truncated or "
            "its header is wrong"
        )
    array = np.empty(count, dtype)
    target, filled = array.view(np.uint8).data, 0
    while part := file.read(min(2**20, len(target) - filled)):
        target[filled : filled + len(part)] = part
        filled += len(part)
    if filled < len(target):
        raise ReadError(f"{path}: truncated: {filled:,} of {len(target):,} bytes are there")
    return array.reshape(shape, order="F" if fortran_order else "C")


def _npy_header(path: Path, file: Any) -> tuple[tuple[int, ...], bool, np.dtype]:
    headers: dict[tuple[int, int], Any] = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    try:
        version = np.lib.format.read_magic(file)  # type: ignore[arg-type]
        shape, fortran_order, dtype = headers[version](file)
    except (ValueError, KeyError) as error:
        raise ReadError(f"{path}: not a NumPy array, or a damaged one: {error}") from error
    if any(length < 0 for length in shape):
        raise ReadError(f"{path}: the header claims axes of length {list(shape)}")
    return shape, fortran_order, dtype


def _bare_scan(path: Path, array: np.ndarray, *, reader: str, key: str = "") -> Scan:
    """Check an array and wrap it as a scan of unknown geometry."""
    if array.dtype.kind not in "iuf":
        raise ReadError(f"{path}: voxels are {array.dtype}, expected integers or real numbers")
    lengths = array.shape
    if array.ndim < 3 or any(length != 1 for length in lengths[:-3]) or min(lengths) < 1:
        raise ReadError(
            f"{path}: the array is {' x '.join(map(str, lengths)) or 'a single number'}, expected "
            "one 3D volume (d, h, w); split other axes first"
        )
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if array.dtype.kind == "f" and (count := int(array.size - np.isfinite(array).sum())):
        raise ReadError(
            f"{path}: {count:,} of {array.size:,} voxels are NaN or infinite; "
            "mend the file or leave it out"
        )
    return Scan(
        array=array.reshape(lengths[-3:]),
        affine=np.full((4, 4), np.nan),
        spacing_mm=(math.nan, math.nan, math.nan),
        orientation="",
        provenance={
            "path": str(path),
            "reader": reader,
            "dtype": str(array.dtype),
            "geometry": _UNKNOWN,
        }
        | ({"key": key} if key else {}),
    )
