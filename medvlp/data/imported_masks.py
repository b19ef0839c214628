"""Organ masks that TotalSegmentator made earlier, found beside the scans of any data set.

They get the ids of version 2, whatever the outputs are: one file of ids, with or without the names
that version 2 writes into its header; one file per class; or the 104 classes of version 1.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float64

from medvlp.data.anatomy_mask import header_holds
from medvlp.data.organ_masks import MadeMask, OrganMasks, file_affine, write_mask
from medvlp.data.read_scan import read_scan
from medvlp.data.readers.registry import read
from medvlp.data.records import ScanRecord
from medvlp.data.scan import Scan
from medvlp.data.totalsegmentator_classes import (
    NIFTI,
    Task,
    class_names,
    ids_of,
    names_in_header,
    refuse_v1,
)

Version = Literal["auto", "v1", "v2"]

PATTERNS = (
    "{grandparent}/{parent}/{stem}.nii.gz",
    "{parent}/{stem}.nii.gz",
    "{stem}.nii.gz",
    "{stem}_seg.nii.gz",
    "{stem}/segmentations",
    "{stem}",
    "{parent}/segmentations",
)
"""Where the mask of a scan is looked for, in this order: a file of ids, or a folder of classes."""

_SAME_MM = 0.01  # headers round


class ImportedMasks(OrganMasks):
    """Outputs of TotalSegmentator that lie in a folder.

    Args:
        root: The folder; nothing outside of it is read.
        patterns: Where the mask of a scan lies within it: a NIfTI file of ids, or a folder with a
            file for each class. {stem} is the name of the scan's file (or folder) without
            suffix, {parent} and {grandparent} the folders above, {scan_id} its id. None tries
            `PATTERNS`.
        task: Whose classes these are.
        version: Of the ids in files that do not name their classes. "auto" takes them for version
            2's and refuses those that cannot be.
    """

    def __init__(
        self,
        root: str | None,
        *,
        patterns: Sequence[str] | None = None,
        task: Task = "total",
        version: Version = "auto",
    ) -> None:
        if not root:
            raise ValueError("masks=import needs the folder of the masks: masks_dir=FOLDER")
        if not Path(root).is_dir():
            raise FileNotFoundError(f"{root} is not a folder; set masks_dir to that of the masks")
        self.root, self.patterns = Path(root), tuple(patterns or PATTERNS)
        self.task: Task = task
        self.version: Version = version
        for pattern in self.patterns:
            _filled(pattern, ScanRecord("scan", Path("a/b/c.nii.gz")))

    def state(self, record: ScanRecord) -> str:
        """Name the mask, when it was written, and what decides about its ids and geometry."""
        found = self.find(record)
        files = [] if found is None else _files(found)
        states = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]
        stated = (self.task, self.version, record.orientation, record.spacing_mm)
        return f"import {found} {states} {stated}"

    def make(self, record: ScanRecord, target: Path) -> MadeMask:
        """Check a mask; write it anew only if ids or geometry are not as they should be."""
        found = self.find(record)
        if found is None:
            looked = ", ".join(_filled(pattern, record) for pattern in self.patterns[:3])
            return MadeMask(None, (f"no organ mask in {self.root}: looked for {looked}, ...",))
        if found.is_dir():
            mask, notes = self._merged(found)
            changed = True
        else:
            mask, notes, changed = self._renumbered(found, record)
        affine = self._restated(mask, record)
        if changed or affine is not None:
            write_mask(
                target, mask.array.astype(np.uint8), mask.affine if affine is None else affine
            )
            return MadeMask(target, notes)
        return MadeMask(found, notes)

    def find(self, record: ScanRecord) -> Path | None:
        """Find the mask of a scan."""
        root = self.root.resolve()
        for pattern in self.patterns:
            path = self.root / _filled(pattern, record)
            inside = path.resolve().is_relative_to(root)
            itself = path.resolve() == record.path.resolve()
            if inside and not itself and (path.is_file() or (path.is_dir() and _files(path))):
                return path
        return None

    def check(self, made: int, total: int) -> None:
        """Refuse a folder without a mask for any scan."""
        if not made:
            raise ValueError(
                f"none of {total} scans has a sound organ mask in {self.root}; set masks_dir, or "
                f"masks.patterns to where they lie: {', '.join(self.patterns)}"
            )

    def _merged(self, folder: Path) -> tuple[Scan, tuple[str, ...]]:
        names = {
            path.name.removesuffix(".gz").removesuffix(".nii"): path for path in _files(folder)
        }
        ids, unknown = ids_of(names, self.task)
        if not ids:
            raise ValueError(f"{folder} holds no class of TotalSegmentator{unknown[0]}")
        merged: Scan | None = None
        for name, number in sorted(ids.items(), key=lambda item: item[1]):
            part = read(names[name])
            if merged is None:
                labels = np.zeros(part.array.shape, np.uint8)
                merged = Scan(labels, part.affine, part.spacing_mm, part.orientation)
            if part.array.shape != merged.array.shape or not _same(part.affine, merged.affine):
                raise ValueError(f"{names[name]} lies on another grid than the other classes")
            merged.array[part.array > 0] = number
        assert merged is not None
        return merged, unknown

    def _renumbered(self, path: Path, record: ScanRecord) -> tuple[Scan, tuple[str, ...], bool]:
        mask = read(path)
        present = np.unique(mask.array)
        if present[0] < 0 or not np.array_equal(present, present.round()):
            raise ValueError(f"{path} is no mask: it holds {present[0]:g} to {present[-1]:g}")
        highest = int(present[-1])
        names = names_in_header(path)
        if names:
            numbers, unknown = ids_of(names.values(), self.task)
            table = {value: numbers.get(name, 0) for value, name in names.items()}
        else:
            unknown = ()
            version = self.version
            if version == "auto":
                version = self._require_v2(mask, record, highest)
            known = class_names("total_v1" if version == "v1" else self.task)
            if highest > len(known):
                raise ValueError(f"{path} has the id {highest}, and there are {len(known)} classes")
            numbers, _ = ids_of(known, self.task)
            table = {value: numbers.get(name, 0) for value, name in enumerate(known, 1)}
        if all(table.get(int(value), 0) == value for value in present):
            return mask, unknown, False
        lookup = np.zeros(max(highest, *table) + 1, np.uint8)
        lookup[list(table)] = list(table.values())
        labels = lookup[mask.array.astype(np.int64)]
        return Scan(labels, mask.affine, mask.spacing_mm, mask.orientation), unknown, True

    def _require_v2(self, mask: Scan, record: ScanRecord, highest: int) -> Version:
        if self.task == "total" and highest <= len(class_names("total_v1")):
            scan = read_scan(record)
            if scan.modality == "CT" and scan.array.shape == mask.array.shape:
                refuse_v1(mask.array, scan.array * scan.rescale.slope + scan.rescale.intercept)
        return "v2"

    def _restated(self, mask: Scan, record: ScanRecord) -> Float64[np.ndarray, "4 4"] | None:
        """Give the mask the geometry that the data set states of its scan, if it overrules it."""
        if record.orientation is None and record.spacing_mm is None:
            return None
        scan = read_scan(record)
        if header_holds(scan):
            return None
        if mask.array.shape != scan.array.shape or not _same(mask.affine, scan.affine):
            raise ValueError(
                f"the data set overrules the header of the scan, and the mask of {record.scan_id} "
                "is not on its grid: where it lies cannot be told; make it from the same file"
            )
        return file_affine(scan)


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    return sorted(file for file in path.iterdir() if file.name.endswith(NIFTI))


def _filled(pattern: str, record: ScanRecord) -> str:
    path = record.path
    stem = path.name.removesuffix(".gz").rsplit(".", 1)[0] if path.suffix else path.name
    fields: Mapping[str, str] = {
        "stem": stem,
        "parent": path.parent.name,
        "grandparent": path.parent.parent.name,
        "scan_id": record.scan_id,
    }
    try:
        return pattern.format(**fields)
    except (KeyError, IndexError, ValueError) as error:
        raise ValueError(
            f"masks.patterns has {pattern!r}, expected names of {', '.join(fields)} in braces"
        ) from error


def _same(first: np.ndarray, second: np.ndarray) -> bool:
    return bool(np.allclose(first, second, rtol=0, atol=_SAME_MM))
