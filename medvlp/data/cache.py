"""Prepared volumes on disk: one compressed b2nd file each, crop-addressable, written atomically."""

import hashlib
import logging
import os
import tempfile
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

Facts = dict[str, Any]

_SUFFIX = ".b2nd"
_BLOCK_BYTES = 32 * 2**10  # decompressed as one: fits the innermost processor cache
_CHUNK_BYTES = 2**20


class VolumeCache:
    """A folder of volumes, found by scan id.

    File names are hashes of the ids, so no name from a table reaches the file system. A file is
    complete or not there at all: it is written aside and moved into place.

    Args:
        folder: Made when the first volume is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)

    def path_of(self, scan_id: str, field: str = "image") -> Path:
        """Say where a field of a scan lies, or would lie."""
        if not field.isidentifier():
            raise ValueError(f"field is {field!r}, expected a name of letters, digits and _")
        digest = hashlib.sha256(scan_id.encode()).hexdigest()
        suffix = _SUFFIX if field == "image" else f".{field}{_SUFFIX}"
        return self.folder / digest[:2] / f"{digest[:32]}{suffix}"

    def write(
        self, scan_id: str, array: np.ndarray, facts: Mapping[str, Any], field: str = "image"
    ) -> None:
        """Compress an array and move it into place; an older one is replaced.

        Write "image" last: a scan counts as prepared when that is there.

        Args:
            scan_id: Any string.
            array: Axes (d, h, w), or more.
            facts: Kept with the array, in JSON types.
            field: What of the scan this is.
        """
        blosc2 = _blosc2()
        packed: Any = blosc2.asarray(
            np.ascontiguousarray(array),
            cparams=_compression(array.dtype),
            **piece_shapes(array),
        )
        packed.schunk.vlmeta["crc32"] = _checksum(array)
        packed.schunk.vlmeta["facts"] = {**facts, "scan_id": scan_id}
        write_atomically(self.path_of(scan_id, field), packed.to_cframe())

    def read(
        self,
        scan_id: str,
        region: tuple[slice, ...] | None = None,
        field: str = "image",
        out: np.ndarray | None = None,
    ) -> np.ndarray:
        """Read an array, or decompress only the part of it that `region` cuts out.

        Args:
            scan_id: As it was written.
            region: Of the first axes, without steps.
            field: As it was written.
            out: Is filled, and returned, in place of a new array; contiguous memory is filled
                without a copy in between.

        Raises:
            FileNotFoundError: If the scan was never prepared.
            ValueError: If the file is damaged, and how to mend it; or if `out` does not fit.
        """
        volume = self._open(scan_id, field)
        starts, stops = _bounds(region or (), volume.shape, scan_id)
        shape = tuple(max(0, stop - start) for start, stop in zip(starts, stops, strict=True))
        if out is not None and (out.shape, out.dtype) != (shape, volume.dtype):
            raise ValueError(
                f"{scan_id}: {field} is {shape} {volume.dtype}, and is to be read into "
                f"{out.shape} {out.dtype}"
            )
        direct = out is not None and out.flags.c_contiguous
        target = out if out is not None and direct else np.empty(shape, volume.dtype)
        try:
            volume.get_slice_numpy(target, (starts, stops))
        except RuntimeError as error:
            raise ValueError(self._damaged(scan_id, field)) from error
        if out is None or direct:
            return target
        out[...] = target
        return out

    def check(self, scan_id: str, field: str = "image") -> None:
        """Decompress an array and compare it with the checksum of what was written.

        Raises:
            FileNotFoundError: If the scan was never prepared.
            ValueError: If the file is damaged, and how to mend it.
        """
        volume = self._open(scan_id, field)  # kept: its metadata refer to it weakly
        try:
            sound = volume.schunk.vlmeta["crc32"] == _checksum(self.read(scan_id, field=field))
        except (KeyError, MemoryError):  # the place of the checksum or the shape is damaged
            sound = False
        if not sound:
            raise ValueError(self._damaged(scan_id, field))

    def shape(self, scan_id: str, field: str = "image") -> tuple[int, ...]:
        """Read the shape of an array without decompressing it."""
        return tuple(self._open(scan_id, field).shape)

    def facts(self, scan_id: str, field: str = "image") -> Facts | None:
        """Read what was written with the array; None where there is no sound file."""
        try:
            volume = self._open(scan_id, field)  # kept: its metadata refer to it weakly
            return dict(volume.schunk.vlmeta["facts"])
        except (FileNotFoundError, ValueError, KeyError):
            return None

    def remove_leftovers(self) -> int:
        """Delete what an interrupted writer left aside; returns how many files."""
        leftovers = list(self.folder.glob(f"*/*{_SUFFIX}.*.tmp"))
        for path in leftovers:
            path.unlink(missing_ok=True)
        return len(leftovers)

    def _open(self, scan_id: str, field: str) -> Any:
        blosc2 = _blosc2()
        path = self.path_of(scan_id, field)
        if not path.is_file():
            raise FileNotFoundError(
                f"{field} of {scan_id} is not in the cache {self.folder}; "
                "run: python -m medvlp.prepare"
            )
        try:
            # one thread: the loader's workers are the parallelism
            return blosc2.open(str(path), mode="r", dparams={"nthreads": 1})
        except (RuntimeError, ValueError) as error:
            raise ValueError(self._damaged(scan_id, field)) from error

    def _damaged(self, scan_id: str, field: str) -> str:
        path = self.path_of(scan_id, field)
        return f"{path} ({scan_id}) is damaged; delete it and run: python -m medvlp.prepare"


def piece_shapes(array: np.ndarray) -> dict[str, tuple[int, ...]]:
    """Choose what a file is divided into, as arguments of `blosc2.asarray`."""
    return {"chunks": _run_of(array, _CHUNK_BYTES), "blocks": _run_of(array, _BLOCK_BYTES)}


def _bounds(
    region: tuple[slice, ...], shape: tuple[int, ...], scan_id: str
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return where the region starts and stops on every axis."""
    parts = (*region, *[slice(None)] * (len(shape) - len(region)))
    bounds = [part.indices(length) for part, length in zip(parts, shape, strict=True)]
    starts, stops, steps = zip(*bounds, strict=True)
    if set(steps) != {1}:
        raise ValueError(f"{scan_id}: the region {region} has steps, and a file has none")
    return starts, stops


def _run_of(array: np.ndarray, num_bytes: int) -> tuple[int, ...]:
    """Shape a piece of about so many bytes that lies together in memory: rows, planes, volumes.

    Whole rows make long copies, so that reading everything is fast; and a piece is so small
    beside a volume that a crop decompresses little more than itself.
    """
    left, piece = num_bytes // array.itemsize, []
    for length in reversed(array.shape):
        piece.append(max(1, min(length, left)))
        left //= piece[-1]
    return tuple(reversed(piece))


def _compression(dtype: np.dtype) -> Any:
    """Choose by measurement (`medvlp.bench data`): LZ4 is read at memory speed.

    Noise fills the low bits of integers and leaves the high ones alike, so bits are grouped;
    halves have full mantissas, where grouping bytes does as well and takes less time. Masks of
    one byte shrink so much that Zstandard costs nothing.
    """
    blosc2 = _blosc2()
    if dtype.itemsize == 1:
        return blosc2.CParams(codec=blosc2.Codec.ZSTD, clevel=1, filters=[], nthreads=1)
    kind = blosc2.Filter.SHUFFLE if dtype.kind == "f" else blosc2.Filter.BITSHUFFLE
    return blosc2.CParams(codec=blosc2.Codec.LZ4, clevel=9, filters=[kind], nthreads=1)


def _checksum(array: np.ndarray) -> int:
    from isal import isal_zlib

    return isal_zlib.crc32(np.ascontiguousarray(array).reshape(-1).view(np.uint8))


def _blosc2() -> Any:
    logging.getLogger("numexpr").setLevel(logging.WARNING)  # announces its threads on import
    import blosc2

    return blosc2


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that it is never seen half done, and survives a power cut once seen."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f"{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with aside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


def require_writable(folder: Path) -> None:
    """Make a folder and prove that a file can be written there, before any work.

    Raises:
        PermissionError: With the folder and what to set.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):  # without a name: nothing of it can stay
            pass
    except OSError as error:
        raise PermissionError(
            f"cannot write to {folder} ({error.strerror}); set paths.cache=... to a folder of yours"
        ) from error
