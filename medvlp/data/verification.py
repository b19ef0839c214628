"""Whether a prepared data set is sound on disk, and what to do where it is not."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medvlp.data.cache import Facts, VolumeCache
from medvlp.data.engine import Engine
from medvlp.data.exclusive import exclusive
from medvlp.data.manifest import Manifest, Row, is_prepared
from medvlp.data.preparation import remove_leftovers

DAMAGE = ("damaged", "missing", "incomplete")
"""Kinds of findings that a training run would stumble over; "orphan" and "leftover" are waste."""

OnScan = Callable[[int], None]


@dataclass(frozen=True)
class Finding:
    """Something that is not as it should be.

    Attributes:
        kind: One of `DAMAGE`, "orphan": a volume that the manifest does not name, or "leftover":
            what a killed writer left.
        path: Of the file.
        reason: A sentence for the user.
    """

    kind: str
    path: Path
    reason: str


@dataclass(frozen=True)
class _Entry:
    cache: VolumeCache
    scan: Row
    fields: tuple[str, ...]

    @property
    def scan_id(self) -> str:
        return self.scan["scan_id"]

    def __str__(self) -> str:
        return self.scan_id


def prepared_folders(cache_dir: Path) -> list[Path]:
    """List the folders of all data sets and recipes in a cache, complete or not.

    Raises:
        FileNotFoundError: If there is no such cache.
    """
    if not cache_dir.is_dir():
        raise FileNotFoundError(
            f"there is no cache at {cache_dir}; name its folder, or prepare a data set first"
        )
    signs = [*cache_dir.glob("*/*/volumes"), *cache_dir.glob("*/*/dataset.json")]
    return sorted({sign.parent for sign in signs})


def verify_dataset(folder: Path, engine: Engine, on_scan: OnScan | None = None) -> list[Finding]:
    """Check every volume of a data set: all is decompressed and compared with its checksum.

    Args:
        folder: See `dataset_folder`.
        engine: Where the work runs.
        on_scan: Called after each scan with the number of scans in all.

    Returns:
        What was found, in the order of the manifest; nothing if all is well.
    """
    leftovers = [*folder.glob("*.tmp"), *folder.glob("volumes/*/*.tmp")]
    findings = [Finding("leftover", path, "left by a killed writer") for path in sorted(leftovers)]
    if not is_prepared(folder):
        reason = "the manifest is missing, damaged or not of this version; prepare again"
        return [Finding("incomplete", folder / "dataset.json", reason), *findings]
    manifest = Manifest(folder)
    entries = list(_entries(manifest))
    found: dict[str, list[Finding]] = {}
    for scan_id, of_scan in engine.run(check_entry, entries):
        found[scan_id] = of_scan
        if on_scan is not None:
            on_scan(len(entries))
    expected = {
        manifest.cache.path_of(entry.scan_id, field) for entry in entries for field in entry.fields
    }
    orphans = sorted(set(manifest.cache.folder.glob("*/*.b2nd")) - expected)
    strays = [Finding("orphan", path, "the manifest does not name it") for path in orphans]
    return [*(item for entry in entries for item in found[entry.scan_id]), *strays, *findings]


def check_entry(entry: _Entry) -> tuple[str, list[Finding]]:
    """Check all fields of one scan."""
    findings = [_check(entry, field) for field in entry.fields]
    return entry.scan_id, [finding for finding in findings if finding is not None]


def repair(folder: Path, findings: list[Finding], *, prune: bool = False) -> int:
    """Delete what is damaged, so that the next preparation makes it again.

    With any damage the manifest goes too: whoever trains prepares what is missing first.

    Args:
        folder: Of the data set.
        findings: From `verify_dataset`.
        prune: Delete orphans as well.

    Returns:
        How many files were deleted.
    """
    with exclusive(folder):
        doomed = {f.path for f in findings if f.kind == "damaged" or (prune and f.kind == "orphan")}
        if any(finding.kind in DAMAGE for finding in findings):
            doomed.add(folder / "dataset.json")
        there = [path for path in sorted(doomed) if path.is_file()]
        for path in there:
            path.unlink()
        return len(there) + remove_leftovers(folder)


def bytes_on_disk(folder: Path) -> int:
    """Sum the sizes of all files of a data set."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _entries(manifest: Manifest) -> Iterator[_Entry]:
    for study in manifest:
        for scan in study["scans"]:
            yield _Entry(manifest.cache, scan, manifest.fields)


def _check(entry: _Entry, field: str) -> Finding | None:
    cache, scan_id = entry.cache, entry.scan_id
    path = cache.path_of(scan_id, field)
    try:
        cache.check(scan_id, field)
        array, facts = cache.read(scan_id, field=field), cache.facts(scan_id, field)
    except FileNotFoundError:
        return Finding("missing", path, f"{field} of {scan_id}")
    except Exception as error:  # there is no end to what a damaged file does to a decoder
        told = str(error).replace(f"{path} ", "") or repr(error)
        return Finding("damaged", path, f"{field} of {scan_id}: {told}")
    reason = _disagreement(entry, field, array, facts or {})
    return Finding("damaged", path, f"{field} of {scan_id}: {reason}") if reason else None


def _disagreement(entry: _Entry, field: str, array: np.ndarray, facts: Facts) -> str:
    """Say how a sound file differs from what the manifest says; empty if it does not."""
    if facts.get("scan_id") != entry.scan_id:
        return "it holds another scan"
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        return "values that are not finite"
    if field != "image":
        return ""
    if list(array.shape) != entry.scan["shape"]:
        return f"{list(array.shape)} voxels, the manifest says {entry.scan['shape']}"
    if {**facts, "fingerprint": ""} != {**entry.scan, "fingerprint": ""}:
        return "what is written with it is not what the manifest says"
    return ""
