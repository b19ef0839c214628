"""Organ masks beside the scans of any data set: the step before preparation that provides them."""

import gzip
import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Float64, UInt8

from medvlp.data.cache import require_writable, write_atomically
from medvlp.data.engine import Engine
from medvlp.data.exclusive import exclusive
from medvlp.data.records import ScanRecord, Skip, StudyRecord, StudySource
from medvlp.data.scan import Scan, resampled_affine

COMPANION = "anatomy_mask"

OnMask = Callable[[int], None]


@dataclass(frozen=True)
class MadeMask:
    """What became of the mask of one scan.

    Attributes:
        path: Of the mask; None if there is none.
        notes: What the user should know: why there is none, classes that are not known.
    """

    path: Path | None
    notes: tuple[str, ...] = ()


class OrganMasks(ABC):
    """Where organ masks come from: files of the user's, or a network that makes them.

    Attributes:
        in_this_process: Whether the work wants one process, that of the caller: a network does.
    """

    in_this_process: bool = False

    @abstractmethod
    def state(self, record: ScanRecord) -> str:
        """Say in a string all that the mask of a scan depends on; what has not changed is kept."""

    @abstractmethod
    def make(self, record: ScanRecord, target: Path) -> MadeMask:
        """Find or make the mask of a scan.

        Args:
            record: Of the scan.
            target: Where to write a mask (.nii.gz) if the one that was found cannot stay as it is.

        Raises:
            ValueError: If the mask cannot be right.
        """

    def check(self, made: int, total: int) -> None:  # noqa: B027 - nothing to check by default
        """Look at how many scans have a mask.

        Raises:
            ValueError: If something must be wrong with all of them.
        """


class WithOrganMasks(StudySource):
    """A data set whose scans have the companion "anatomy_mask".

    It describes itself as the data set alone, so that training finds what was prepared.

    Args:
        source: The data set.
        masks: Scan id to mask.
        skips: What is to be told of the masks.
    """

    def __init__(self, source: StudySource, masks: Mapping[str, Path], skips: list[Skip]) -> None:
        self.name, self.label_names = source.name, source.label_names
        self.source, self.masks, self._of_masks = source, dict(masks), list(skips)
        self.skips: list[Skip] = []

    def materialise(self) -> None:
        """Let the data set write itself."""
        self.source.materialise()

    def describe(self) -> dict[str, Any]:
        """State which data set this is."""
        return self.source.describe()

    def studies(self) -> Iterator[StudyRecord]:
        """Yield the studies of the data set, with masks."""
        for study in self.source.studies():
            scans = tuple(self._with_mask(scan) for scan in study.scans)
            yield replace(study, scans=scans)
        self.skips = [*self.source.skips, *self._of_masks]

    def _with_mask(self, scan: ScanRecord) -> ScanRecord:
        mask = self.masks.get(scan.scan_id)
        if mask is None:
            return scan
        return replace(scan, companions={**scan.companions, COMPANION: mask})


@dataclass(frozen=True)
class _Job:
    record: ScanRecord
    masks: OrganMasks
    folder: Path

    def __str__(self) -> str:
        return f"the organ mask of {self.record.scan_id}"


def attach_masks(
    source: StudySource,
    masks: OrganMasks,
    *,
    cache_dir: Path,
    engine: Engine,
    on_mask: OnMask | None = None,
) -> WithOrganMasks:
    """Provide the organ masks of all scans of a data set; masks that were made are kept.

    Args:
        source: The data set.
        masks: Where they come from.
        cache_dir: As for preparation; masks that must be written lie in `<name>/masks`.
        engine: Where the work runs.
        on_mask: Called after each with the number of scans.

    Raises:
        ValueError: If no scan at all has a mask.
    """
    folder = Path(cache_dir) / source.name / "masks"
    require_writable(folder)
    with exclusive(folder):
        source.materialise()
        records = [scan for study in source.studies() for scan in study.scans]
        jobs = [_Job(record, masks, folder) for record in records]
        made: dict[str, MadeMask] = {}
        for scan_id, mask in engine.run(provide_mask, jobs):
            made[scan_id] = mask
            if on_mask is not None:
                on_mask(len(jobs))
    ordered = [(record, made[record.scan_id]) for record in records]
    masks.check(sum(mask.path is not None for _, mask in ordered), len(records))
    notes = [Skip(str(record.path), note) for record, mask in ordered for note in mask.notes]
    paths = {record.scan_id: mask.path for record, mask in ordered if mask.path is not None}
    return WithOrganMasks(source, paths, notes)


def provide_mask(job: _Job) -> tuple[str, MadeMask]:
    """Make the mask of one scan unless that was done; what is wrong with it becomes a note."""
    record = job.record
    try:
        state = job.masks.state(record)
        digest = hashlib.sha256(f"{record.scan_id} {state}".encode()).hexdigest()
        target = job.folder / digest[:2] / f"{digest[:32]}.nii.gz"
        account = target.with_name(f"{digest[:32]}.json")  # written last: it says all is done
        if account.is_file():
            stated = json.loads(account.read_text(encoding="utf-8"))
            path = None if stated["path"] is None else Path(stated["path"])
            if path is None or path.is_file():
                return record.scan_id, MadeMask(path, tuple(stated["notes"]))
        made = job.masks.make(record, target)
    except Exception as error:  # one bad mask of any kind must not stop the other thousands
        reason = str(error) if isinstance(error, (ValueError, OSError)) else repr(error)
        return record.scan_id, MadeMask(None, (f"no organ mask: {' '.join(reason.split())}",))
    path = None if made.path is None else str(made.path)
    stated = json.dumps({"path": path, "notes": list(made.notes)}, ensure_ascii=False)
    write_atomically(account, stated.encode())
    return record.scan_id, made


def write_mask(
    path: Path, labels: UInt8[np.ndarray, "d h w"], affine: Float[np.ndarray, "4 4"]
) -> None:
    """Write a mask as .nii.gz; equal masks give equal bytes.

    Args:
        path: Where to.
        labels: Axes (d, h, w).
        affine: From the index (w, h, d), as files count, to RAS+ millimetres.
    """
    import nibabel as nib

    image = nib.Nifti1Image(labels.transpose(2, 1, 0), affine)
    # not ISA-L, which packs equal bytes in more than one way
    write_atomically(path, gzip.compress(image.to_bytes(), 1, mtime=0))


def file_affine(scan: Scan) -> Float64[np.ndarray, "4 4"]:
    """State a scan's own grid, as its data set has it, from the index (w, h, d) of its file."""
    shape: tuple[int, ...] = scan.array.shape
    return resampled_affine(scan, scan.orientation, shape)[:, [2, 1, 0, 3]]
