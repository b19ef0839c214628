"""WebDataset shards: tar files of samples, read in place through an index of their members.

A shard is read at random instead of streamed, so that order, mixing, resuming and sharing among
ranks are those of any other data set. The index takes one pass over the tar headers and is kept
beside the shards or wherever `index_dir` says.
"""

import hashlib
import re
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medvlp.data.image_sets import ImageItem, ImageSet
from medvlp.data.records import Skip

_IMAGE_SUFFIXES = ("jpg", "jpeg", "png", "tif", "tiff", "webp")
_TEXT_SUFFIX = "txt"
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_COLUMNS = ("shard", "image_at", "image_bytes", "text_at", "text_bytes")
_END_BYTES = 1024  # two blocks of zeros end every tar file
_VERSION = 1


class ShardImages(ImageSet):
    """Images and captions of WebDataset tar shards.

    A sample is the group of members that share a name up to the first dot: `000001.jpg` and
    `000001.txt`. Samples without an image or a text are left out, and so is what lies behind the
    place where a shard is cut off; all are counted in `skips`.

    Args:
        shards: Paths; `{000001..000212}` is a range, `*` matches. Several are parted by "::".
        name: For messages and mixing.
        modality: Of all images, for the batch.
        index_dir: Where the index is kept; None puts it beside the first shard.
    """

    def __init__(
        self, shards: str, *, name: str, modality: str = "", index_dir: str | None = None
    ) -> None:
        self.shards, self.name, self.modality = shards, name, modality
        self.index_dir = Path(index_dir) if index_dir is not None else None
        self.skips: list[Skip] = []
        self._paths: list[Path] = []
        self._index = np.zeros((0, len(_COLUMNS)), np.int64)

    def open(self) -> None:
        """Find the shards and load their index, or make it."""
        self._paths = expand_shards(self.shards)
        stamp = _stamp(self._paths)
        folder = self.index_dir or self._paths[0].parent
        file = folder / f".medvlp_index_{stamp}.npz"
        if not file.is_file():
            self._write_index(file)
        with np.load(file, allow_pickle=False) as stored:
            self._index = stored["index"]
            reasons = zip(stored["skip_ids"].tolist(), stored["skip_reasons"].tolist(), strict=True)
            self.skips = [Skip(name, reason) for name, reason in reasons]
        if not len(self._index):
            first = f"; the first: {self.skips[0].reason}" if self.skips else ""
            raise ValueError(f"{self.name}: no sample in {len(self._paths)} shards{first}")

    def describe(self) -> dict[str, Any]:
        """State the shards and their size and time."""
        return {"name": self.name, "shards": self.shards, "stamp": _stamp(self._paths)}

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, index: int) -> ImageItem:
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        shard, image_at, image_bytes, text_at, text_bytes = self._index[index].tolist()
        with self._paths[shard].open("rb") as file:
            file.seek(image_at)
            content = file.read(image_bytes)
            file.seek(text_at)
            text = file.read(text_bytes).decode("utf-8")
        image_id = f"{self.name}/{self._paths[shard].name}/{image_at}"
        metadata = {"modality": self.modality} if self.modality else {}
        return ImageItem(image_id, image_id, content, {"caption": text}, metadata=metadata)

    def text_length(self, index: int) -> int:
        """Count the bytes of the caption."""
        return int(self._index[index, _COLUMNS.index("text_bytes")])

    def _write_index(self, file: Path) -> None:
        import io

        from medvlp.data.cache import write_atomically

        rows: list[tuple[int, ...]] = []
        skips: list[Skip] = []
        for number, path in enumerate(self._paths):
            rows += [(number, *row) for row in _samples(path, skips)]
        buffer = io.BytesIO()
        np.savez_compressed(
            buffer,
            index=np.array(rows, dtype=np.int64).reshape(len(rows), len(_COLUMNS)),
            skip_ids=np.array([skip.id for skip in skips], dtype=np.str_),
            skip_reasons=np.array([skip.reason for skip in skips], dtype=np.str_),
        )
        write_atomically(file, buffer.getvalue())


def expand_shards(pattern: str) -> list[Path]:
    """List the tar files that a pattern names, in its order.

    Raises:
        FileNotFoundError: If one is not there; the message says how many are missing.
    """
    paths: list[Path] = []
    for part in pattern.split("::"):
        for name in _expand_range(part):
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
            f"{len(missing)} of {len(paths)} shards are not there, the first: {missing[0]}"
        )
    return paths


def _expand_range(part: str) -> list[str]:
    match = _RANGE.search(part)
    if not match:
        return [part]
    first, last = int(match[1]), int(match[2])
    if last < first:
        raise ValueError(f"{part}: the range of shards runs backwards")
    names: list[str] = []
    for number in range(first, last + 1):
        head = f"{part[: match.start()]}{number:0{len(match[1])}d}"
        names += [head + tail for tail in _expand_range(part[match.end() :])]
    return names


def _stamp(paths: Sequence[Path]) -> str:
    states = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
    return hashlib.sha256(repr((_VERSION, states)).encode()).hexdigest()[:16]


def _samples(path: Path, skips: list[Skip]) -> Iterator[tuple[int, int, int, int]]:
    """Yield offsets and sizes of image and text of every whole sample of a shard."""
    members: dict[str, dict[str, tarfile.TarInfo]] = {}
    size = path.stat().st_size
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
    for stem, parts in members.items():
        image = next((parts[suffix] for suffix in _IMAGE_SUFFIXES if suffix in parts), None)
        text = parts.get(_TEXT_SUFFIX)
        if image is None or text is None:
            reason = f"no {'image' if image is None else 'text'} in the sample"
            skips.append(Skip(f"{path}/{stem}", reason))
        else:
            yield image.offset_data, image.size, text.offset_data, text.size


def _members(path: Path, skips: list[Skip]) -> Iterator[Any]:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _END_BYTES))
        if any(file.read()):
            skips.append(Skip(str(path), "the shard has no end mark: it was cut off"))
    try:
        with tarfile.open(path, "r:") as archive:
            yield from archive
    except tarfile.TarError as error:
        skips.append(Skip(str(path), f"the shard is damaged or cut off: {error}"))
