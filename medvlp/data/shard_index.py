"""Where the samples of WebDataset shards lie: one pass over the tar headers, kept on disk."""

import hashlib
import io
import json
import re
import tarfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64
from numpy import ndarray

from medvlp.data.cache import require_writable, write_atomically
from medvlp.data.progress import RateBar
from medvlp.data.records import Skip
from medvlp.data.shard_writer import has_end_mark

COLUMNS = ("shard", "image_at", "image_bytes", "text_at", "text_bytes")

_IMAGE_SUFFIXES = ("jpg", "jpeg", "png", "tif", "tiff", "webp")
_TEXT_SUFFIX = "txt"
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_VERSION = 2
_GROUP = 16  # shards of one file on the way
_THREADS = 16  # headers lie far apart: nearly all of the time is waiting for the file system
_WORTH_A_BAR = 100  # shards


@dataclass(frozen=True)
class ShardIndex:
    """The samples of some shards.

    Attributes:
        paths: Of the shards.
        states: Size and time of change of each when it was indexed.
        file: Holds `rows`, which is mapped: all processes of a machine share it.
        rows: See `COLUMNS`: number of the shard, offsets and sizes in bytes.
        skips: What is no whole sample.
    """

    paths: tuple[Path, ...]
    states: Int64[ndarray, "p 2"]
    file: Path
    rows: Int64[ndarray, "s 5"]
    skips: tuple[Skip, ...]


def open_index(paths: Sequence[Path], folder: Path) -> ShardIndex:
    """Load the index of these shards, or make it; one that was interrupted goes on.

    Args:
        paths: As `expand_shards` gives them.
        folder: Where the index is kept.

    Raises:
        PermissionError: If there is none and the folder cannot be written.
    """
    states = np.array([_state(path) for path in paths], dtype=np.int64).reshape(len(paths), 2)
    file = folder / f".medvlp_index_{stamp_of(paths)}.npy"
    if not file.is_file():
        _write(paths, file)
    skips = json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))
    return ShardIndex(
        paths=tuple(paths),
        states=states,
        file=file,
        rows=map_rows(file),
        skips=tuple(Skip(*skip) for skip in skips),
    )


def map_rows(file: Path) -> Int64[ndarray, "s 5"]:
    """Map the rows of an index."""
    # NumPy cannot map an array without a row
    return np.asarray(np.load(file, mmap_mode=None if file.stat().st_size < 256 else "r"))


def stamp_of(paths: Sequence[Path]) -> str:
    """Tell these shards, by name, size and time, from others and from their earlier states."""
    states = [(path.name, *_state(path)) for path in paths]
    return hashlib.sha256(repr((_VERSION, states)).encode()).hexdigest()[:16]


def expand_shards(pattern: str) -> list[Path]:
    """List the tar files that a pattern names, in its order.

    Raises:
        FileNotFoundError: If one is not there; the message says how many are missing.
    """
    paths: list[Path] = []
    for part in pattern.split("::"):
        for name in expand_range(part):
            if "*" in name:
                folder, _, last = name.rpartition("/")
                found = sorted(Path(folder or ".").glob(last))
                if not found:
                    raise FileNotFoundError(f"no shard matches {name}")
                paths += found
            else:
                paths.append(Path(name))
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise FileNotFoundError(
            f"{len(missing)} of {len(paths)} shards are not there, the first: {missing[0]}; "
            "name those you have, or all of a folder by dataset-*.tar"
        )
    return paths


def expand_range(part: str) -> list[str]:
    """List what `{000001..000212}` in a name stands for.

    Raises:
        ValueError: If the range runs backwards.
    """
    match = _RANGE.search(part)
    if not match:
        return [part]
    first, last = int(match[1]), int(match[2])
    if last < first:
        raise ValueError(f"{part}: the range of shards runs backwards")
    names: list[str] = []
    for number in range(first, last + 1):
        head = f"{part[: match.start()]}{number:0{len(match[1])}d}"
        names += [head + tail for tail in expand_range(part[match.end() :])]
    return names


def _state(path: Path) -> tuple[int, int]:
    state = path.stat()
    return state.st_size, state.st_mtime_ns


def _write(paths: Sequence[Path], file: Path) -> None:
    try:
        require_writable(file.parent)
    except PermissionError as error:
        raise PermissionError(
            f"{error}; or give the shards another index_dir: their index is kept there"
        ) from error
    starts = range(0, len(paths), _GROUP)
    parts = [file.with_suffix(f".part{start}.npz") for start in starts]
    found: dict[int, tuple[ndarray, list[Skip]]] = {}
    bar = RateBar("indexing", "shards") if len(paths) >= _WORTH_A_BAR else nullcontext()
    with bar, ThreadPoolExecutor(_THREADS) as pool:
        jobs = {
            pool.submit(_group, paths[start : start + _GROUP], start, part): start
            for start, part in zip(starts, parts, strict=True)
        }
        for job in as_completed(jobs):
            found[jobs[job]] = job.result()
            if isinstance(bar, RateBar):
                bar.advance(len(paths), len(paths[jobs[job] : jobs[job] + _GROUP]))
    rows = np.concatenate([found[start][0] for start in starts])
    skips = [(skip.id, skip.reason) for start in starts for skip in found[start][1]]
    write_atomically(file.with_suffix(".json"), json.dumps(skips).encode())
    buffer = io.BytesIO()
    np.save(buffer, rows, allow_pickle=False)
    write_atomically(file, buffer.getvalue())  # last: it says that all is there
    for part in parts:
        part.unlink(missing_ok=True)


def _group(paths: Sequence[Path], first: int, file: Path) -> tuple[ndarray, list[Skip]]:
    """Index some shards, or recall what was found before an interruption."""
    try:
        with np.load(file, allow_pickle=False) as stored:
            pairs = zip(stored["ids"].tolist(), stored["reasons"].tolist(), strict=True)
            return stored["rows"], [Skip(name, reason) for name, reason in pairs]
    except FileNotFoundError:
        pass
    skips: list[Skip] = []
    found = [(first + k, *row) for k, path in enumerate(paths) for row in _samples(path, skips)]
    rows = np.array(found, dtype=np.int64).reshape(len(found), len(COLUMNS))
    buffer = io.BytesIO()
    np.savez(
        buffer,
        rows=rows,
        ids=np.array([skip.id for skip in skips], dtype=np.str_),
        reasons=np.array([skip.reason for skip in skips], dtype=np.str_),
    )
    write_atomically(file, buffer.getvalue())
    return rows, skips


def _samples(path: Path, skips: list[Skip]) -> Iterator[tuple[int, int, int, int]]:
    """Yield offsets and sizes of image and text of every whole sample of a shard."""
    members: dict[str, dict[str, tarfile.TarInfo]] = {}
    size = path.stat().st_size
    num_skips = len(skips)
    for member in _members(path, skips):
        if member.isfile() and member.offset_data + member.size <= size:
            folder, slash, name = member.name.rpartition("/")
            stem, _, suffix = name.partition(".")
            parts = members.setdefault(f"{folder}{slash}{stem}", {})
            if suffix.lower() in parts:
                skips.append(Skip(f"{path}/{member.name}", "a second member of this name"))
            else:
                parts[suffix.lower()] = member
        elif member.isfile():
            skips.append(Skip(f"{path}/{member.name}", "the shard ends inside this member"))
    if not members and len(skips) == num_skips:
        skips.append(Skip(str(path), "the shard is empty"))
    for stem, parts in members.items():
        image = next((parts[suffix] for suffix in _IMAGE_SUFFIXES if suffix in parts), None)
        text = parts.get(_TEXT_SUFFIX)
        if image is None or text is None:
            reason = f"no {'image' if image is None else 'text'} in the sample"
            skips.append(Skip(f"{path}/{stem}", reason))
        else:
            yield image.offset_data, image.size, text.offset_data, text.size


def _members(path: Path, skips: list[Skip]) -> Iterator[Any]:
    if not has_end_mark(path):
        skips.append(Skip(str(path), "the shard has no end mark: it was cut off"))
    try:
        with tarfile.open(path, "r:") as archive:
            yield from archive
    except tarfile.TarError as error:
        skips.append(Skip(str(path), f"the shard is damaged or cut off: {error}"))
