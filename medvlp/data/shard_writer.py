"""Web shards: tar files of samples that are whole or not there at all."""

import hashlib
import io
import os
import tarfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_END_BYTES = 1024  # two blocks of zeros end every tar file
_NAME = "dataset-{:06d}.tar"


@dataclass(frozen=True)
class Shard:
    """A shard that was written and checked.

    Attributes:
        file: Its name.
        samples: How many it holds.
        bytes: Its size.
        sha256: Of the file.
    """

    file: str
    samples: int
    bytes: int
    sha256: str


class ShardWriter:
    """Writes samples to `dataset-000001.tar` and so on, in the published layout.

    Sample k of the whole set is `{k:06d}.jpg`, the bytes of the image file whatever its format,
    and `{k:06d}.txt`, UTF-8. A shard is written aside, read back and moved into place when it is
    full. Reference: github.com/mbzuai-oryx/UniMed-CLIP, data preparation scripts.

    Args:
        folder: Where to; is there.
        samples_per_shard: 1000 as published.
        num_shards: Shards that are there already.
        num_samples: Samples that these hold.
    """

    def __init__(
        self, folder: Path, *, samples_per_shard: int, num_shards: int = 0, num_samples: int = 0
    ) -> None:
        if samples_per_shard < 1:
            raise ValueError(f"samples_per_shard is {samples_per_shard}, expected 1 or more")
        self.folder, self.samples_per_shard = folder, samples_per_shard
        self.num_shards, self.num_samples = num_shards, num_samples
        self._tar: tarfile.TarFile | None = None
        self._held = 0

    @property
    def at_boundary(self) -> bool:
        """Tell whether the next sample is the first of a shard."""
        return self.num_samples % self.samples_per_shard == 0

    def add(self, image: bytes, text: str) -> Shard | None:
        """Write one sample; returns the shard that it filled."""
        if self._tar is None:
            self._start()
        assert self._tar is not None
        for suffix, content in (("jpg", image), ("txt", text.encode())):
            member = tarfile.TarInfo(f"{self.num_samples:06d}.{suffix}")
            member.size = len(content)
            self._tar.addfile(member, io.BytesIO(content))
        self.num_samples += 1
        self._held += 1
        return self.close() if self._held == self.samples_per_shard else None

    def open_next(self) -> Shard | None:
        """Begin a shard before its first sample is known; returns the one that was open."""
        closed = self.close()
        self._start()
        return closed

    def close(self) -> Shard | None:
        """Finish the shard that is open, however full; None if there is none.

        Raises:
            OSError: If it does not hold what was written, as on a full disk.
        """
        if self._tar is None:
            return None
        self._tar.close()
        self._tar = None
        shard = _checked(self._aside, _NAME.format(self.num_shards + 1), self._held)
        os.replace(self._aside, self.folder / shard.file)
        self.num_shards += 1
        return shard

    def discard(self) -> None:
        """Throw away the shard that is open."""
        if self._tar is not None:
            with suppress(OSError):  # a full disk fails here again
                self._tar.close()
            self._tar = None
        self._aside.unlink(missing_ok=True)

    @property
    def _aside(self) -> Path:
        return self.folder / f".{_NAME.format(self.num_shards + 1)}.tmp"

    def _start(self) -> None:
        self._tar, self._held = tarfile.open(self._aside, "w"), 0  # noqa: SIM115 - until close()


def is_whole(path: Path, shard: Shard, *, verify: bool) -> bool:
    """Tell whether a shard is there as it was written.

    Args:
        path: The file.
        shard: What was written.
        verify: Read the whole file and compare its hash; else its size and end mark.
    """
    if not path.is_file() or path.stat().st_size != shard.bytes or not has_end_mark(path):
        return False
    return not verify or _digest(path) == shard.sha256


def _checked(path: Path, name: str, samples: int) -> Shard:
    with tarfile.open(path, "r:") as archive:
        members = sum(member.isfile() for member in archive)
    if members != 2 * samples or not has_end_mark(path):
        raise OSError(f"{path} holds {members} members where {2 * samples} were written")
    with path.open("rb+") as file:
        os.fsync(file.fileno())
    return Shard(name, samples, path.stat().st_size, _digest(path))


def has_end_mark(path: Path) -> bool:
    """Tell whether a tar file ends as it must: one that was cut off does not."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _END_BYTES))
        return not any(file.read())


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
