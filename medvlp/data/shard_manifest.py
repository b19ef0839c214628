"""What a folder of prepared shards holds: manifest.json, written anew after every shard."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from medvlp.data.cache import write_atomically
from medvlp.data.quarantine import quarantine_file
from medvlp.data.shard_writer import Shard, is_whole

_MANIFEST = "manifest.json"
_HEADER = b"path,reason\r\n"


@dataclass(frozen=True)
class Milestone(Shard):
    """A shard, and how far the rows were read when it was finished.

    Attributes:
        rows: Rows of the annotation files that were read until then.
        skips: Reason to number of the rows that gave no sample until then.
        quarantine_bytes: Size of quarantine.csv then.
    """

    rows: int
    skips: Mapping[str, int]
    quarantine_bytes: int


@dataclass
class ShardManifest:
    """What was written, from what, and what was left out.

    Attributes:
        folder: Of the shards.
        source: Which samples these are, see `CaptionedImages.describe`.
        samples_per_shard: Of all shards but the last.
        num_rows: Rows of the annotation files.
        complete: Whether all rows were read.
        rows: How many were.
        skips: Reason to number of the rows that gave no sample.
        examples: The first samples: number, image, text.
        shards: In order.
    """

    folder: Path
    source: dict[str, Any]
    samples_per_shard: int
    num_rows: int = 0
    complete: bool = False
    rows: int = 0
    skips: dict[str, int] = field(default_factory=dict)
    examples: list[dict[str, str]] = field(default_factory=list)
    shards: list[Milestone] = field(default_factory=list)

    @property
    def num_samples(self) -> int:
        """Count the samples of all shards."""
        return sum(shard.samples for shard in self.shards)

    @property
    def num_skipped(self) -> int:
        """Count the rows that gave no sample."""
        return sum(self.skips.values())

    def keep(self, shard: Shard, *, rows: int) -> None:
        """Note a finished shard and save."""
        size = quarantine_file(self.folder).stat().st_size
        self.shards.append(
            Milestone(**asdict(shard), rows=rows, skips=dict(self.skips), quarantine_bytes=size)
        )
        self.save()

    def save(self) -> None:
        """Write manifest.json."""
        content = asdict(self)
        content = {"num_samples": self.num_samples, "num_skipped": self.num_skipped} | content
        del content["folder"]
        text = json.dumps(content, indent=1, ensure_ascii=False)
        write_atomically(self.folder / _MANIFEST, (text + "\n").encode(errors="backslashreplace"))

    def rewind(self, *, verify: bool) -> None:
        """Go back to the last of the leading shards that are there as they were written.

        Args:
            verify: Compare hashes, see `is_whole`.
        """
        whole = 0
        for shard in self.shards:
            if not is_whole(self.folder / shard.file, shard, verify=verify):
                break
            whole += 1
        if self.complete and whole == len(self.shards):
            return
        self.complete, self.shards = False, self.shards[:whole]
        last = self.shards[-1] if self.shards else None
        self.rows, self.skips = (last.rows, dict(last.skips)) if last else (0, {})
        self.examples = self.examples[: self.num_samples]
        file = quarantine_file(self.folder)
        if last and file.is_file():
            os.truncate(file, min(last.quarantine_bytes, file.stat().st_size))
        else:
            file.write_bytes(_HEADER)


def begin_manifest(folder: Path, wanted: ShardManifest, *, verify: bool = False) -> ShardManifest:
    """Return what a folder holds of the wanted shards already.

    Args:
        folder: Is there.
        wanted: Nothing done yet.
        verify: Compare the hashes of the shards that are there.

    Raises:
        ValueError: If it holds shards of another source, or of other options.
    """
    for leftover in folder.glob(".dataset-*.tar.tmp"):
        leftover.unlink(missing_ok=True)
    if not (folder / _MANIFEST).is_file():
        if shard := next(folder.glob("dataset-*.tar"), None):
            raise ValueError(
                f"{shard} was not written by this verb (no {_MANIFEST} beside it); choose another "
                "folder with data.out_dir=..."
            )
        found = wanted
    else:
        found = read_manifest(folder)
        if found.shards:
            _refuse_other(found, wanted)
        else:  # nothing came of it, whatever it was
            found = wanted
    found.rewind(verify=verify)
    return found


def read_manifest(folder: Path) -> ShardManifest:
    """Read the manifest of a folder.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If it is damaged.
    """
    path = folder / _MANIFEST
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there; run: python -m medvlp.prepare")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        known = {one.name for one in fields(ShardManifest)}
        stated = {key: value for key, value in content.items() if key in known}
        stated["shards"] = [Milestone(**shard) for shard in stated["shards"]]
        return ShardManifest(folder=folder, **stated)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{path} is damaged ({error}); delete {folder} and start again") from error


def _refuse_other(found: ShardManifest, wanted: ShardManifest) -> None:
    stated, asked = ({**m.source, "samples": m.samples_per_shard} for m in (found, wanted))
    for key in {**stated, **asked}:
        if stated.get(key) != asked.get(key):
            raise ValueError(
                f"{found.folder} holds shards of other {key}: {stated.get(key)!r}, asked for is "
                f"{asked.get(key)!r}; delete the folder, or choose another with data.out_dir=..."
            )
