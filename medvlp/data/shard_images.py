"""WebDataset shards: tar files of samples, read in place through an index of their members.

A shard is read at random instead of streamed, so that order, mixing, resuming and sharing among
ranks are those of any other data set.
"""

import os
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, Int64
from numpy import ndarray

from medvlp.data.image_sets import ImageItem, ImageSet
from medvlp.data.readers.registry import ReadError
from medvlp.data.records import Skip
from medvlp.data.shard_index import COLUMNS, expand_shards, map_rows, open_index, stamp_of

_MAX_OPEN = 128  # files per process and set; systems allow 1,024 in all
_WORTH_ONE_READ = 2**16  # bytes between image and text


class ShardImages(ImageSet):
    """Images and captions of WebDataset tar shards.

    A sample is the group of members that share a name up to the first dot: `000001.jpg` and
    `000001.txt`. Samples without an image or a text are left out, and so is what lies behind the
    place where a shard is cut off; all are counted in `skips`. Other files beside the shards,
    `sizes.json` or `__len__`, are never looked at.

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
        self._paths: Sequence[Path] = ()
        self._file: Path | None = None
        self._rows: Int64[ndarray, "s 5"] = np.zeros((0, len(COLUMNS)), np.int64)
        self._files = _OpenShards((), np.zeros((0, 2), np.int64))

    def open(self) -> None:
        """Find the shards and load their index, or make it: one pass over the tar headers."""
        paths = expand_shards(self.shards)
        index = open_index(paths, self.index_dir or paths[0].parent)
        if not len(index.rows):
            first = f"; the first: {index.skips[0].reason}" if index.skips else ""
            raise ValueError(f"{self.name}: no sample in {len(paths)} shards{first}")
        self._paths, self._file = index.paths, index.file
        self._rows, self.skips = index.rows, list(index.skips)
        self._files = _OpenShards(index.paths, index.states)

    def describe(self) -> dict[str, Any]:
        """State the shards and their size and time."""
        return {"name": self.name, "shards": self.shards, "stamp": stamp_of(self._paths)}

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> ImageItem:
        """Read image and text of a sample.

        Raises:
            OSError: If the shard is not as it was when the set was opened.
            ReadError: If the text is not UTF-8.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        shard, image_at, image_bytes, text_at, text_bytes = self._rows[index].tolist()
        image_id = f"{self.name}/{self._paths[shard].name}/{image_at}"
        gap = text_at - image_at - image_bytes
        if 0 <= gap < _WORTH_ONE_READ:  # they are neighbours: the way to a distant disk is long
            both = self._files.read(shard, image_at, image_bytes + gap + text_bytes)
            content, text = both[:image_bytes], both[image_bytes + gap :]
        else:
            content = self._files.read(shard, image_at, image_bytes)
            text = self._files.read(shard, text_at, text_bytes)
        try:
            texts = {"caption": text.decode("utf-8")}
        except UnicodeDecodeError as error:
            raise ReadError(f"{image_id}: the text is not UTF-8 ({error})") from error
        metadata = {"modality": self.modality} if self.modality else {}
        return ImageItem(image_id, image_id, content, texts, metadata=metadata)

    def text_length(self, index: int) -> int:
        """Count the bytes of the caption."""
        return int(self._rows[index, COLUMNS.index("text_bytes")])

    def families(self, rows: Int[ndarray, " s"]) -> Int[ndarray, " s"]:
        """Give images of the same number of bytes the same number: copies are never parted.

        Shards do not say of whom an image is.
        """
        return self._rows[rows, COLUMNS.index("image_bytes")]

    def shard_numbers(self, rows: Int[ndarray, " s"]) -> Int[ndarray, " s"]:
        """Say in which shard each of these images lies."""
        return self._rows[rows, COLUMNS.index("shard")]

    def __getstate__(self) -> dict[str, Any]:
        """Leave the rows to be mapped again: another process shares them."""
        return {name: value for name, value in vars(self).items() if name != "_rows"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        empty = np.zeros((0, len(COLUMNS)), np.int64)
        self._rows = empty if self._file is None else map_rows(self._file)


class _OpenShards:
    """Keeps the shards open that were read last; forked workers may share what is open.

    Args:
        paths: Of the shards.
        states: Size and time of change that each must have.
    """

    def __init__(self, paths: Sequence[Path], states: Int64[ndarray, "p 2"]) -> None:
        self.paths, self.states = paths, states
        self._open: OrderedDict[int, int] = OrderedDict()  # number of the shard: descriptor

    def read(self, shard: int, start: int, num_bytes: int) -> bytes:
        """Read a part of a shard."""
        descriptor = self._open.get(shard)
        if descriptor is None:
            descriptor = self._opened(shard)
        self._open.move_to_end(shard)
        parts = [os.pread(descriptor, num_bytes, start)]
        while (missing := num_bytes - sum(map(len, parts))) and parts[-1]:
            parts.append(os.pread(descriptor, missing, start + num_bytes - missing))
        if missing:
            raise OSError(_changed(self.paths[shard]))
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _opened(self, shard: int) -> int:
        path = self.paths[shard]
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        state = os.fstat(descriptor)
        if (state.st_size, state.st_mtime_ns) != tuple(self.states[shard].tolist()):
            os.close(descriptor)
            raise OSError(_changed(path))
        while len(self._open) >= _MAX_OPEN:
            os.close(self._open.popitem(last=False)[1])
        self._open[shard] = descriptor
        return descriptor

    def __getstate__(self) -> dict[str, Any]:
        return {"paths": self.paths, "states": self.states}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _open=OrderedDict())

    def __del__(self) -> None:
        for descriptor in self._open.values():
            os.close(descriptor)


def _changed(path: Path) -> str:
    return f"{path} has changed since its index was made; start the run again"
