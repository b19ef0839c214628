"""The files that the data benchmark reads: chest CT of real size and compressibility."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from medvlp.data.records import ScanRecord, Skip, StudyRecord, StudySource
from medvlp.data.scan import Rescale
from medvlp.types import Size3D, Spacing3D

RESCALE = Rescale(1.0, -1024.0)

_NOISE_HU, _NOISE_IN_AIR_HU = 60.0, 25.0  # makes nibabel's .nii.gz 1.9 times smaller than raw


@dataclass(frozen=True)
class Files:
    """A folder of scans, equal but for their names.

    Attributes:
        folder: Exists; everything is written below it.
        shape: Slices, rows, columns.
        spacing_mm: Along the same axes.
        count: How many scans.
    """

    folder: Path
    shape: Size3D
    spacing_mm: Spacing3D
    count: int

    @cached_property
    def paths(self) -> list[Path]:
        """Write the first scan, and link the others to it, once."""
        first = self.folder / "scan0.nii.gz"
        _write(first, self.shape, self.spacing_mm)
        links = [self.folder / f"scan{number}.nii.gz" for number in range(1, self.count)]
        for link in links:
            os.link(first, link)
        return [first, *links]

    @property
    def num_bytes(self) -> int:
        """Size of the voxels of one scan."""
        return int(np.prod(self.shape)) * np.dtype(np.int16).itemsize

    def source(self, first: int = 0, count: int | None = None) -> "Chests":
        """Describe some of the scans as a data set."""
        chosen = self.paths[first : None if count is None else first + count]
        return Chests(f"bench_{first}_{len(chosen)}", chosen)


class Chests(StudySource):
    """Scans that are stored as CT-RATE's are: a table, not the header, says how to make HU.

    Args:
        name: Of the cache folder.
        paths: One study each.
    """

    label_names: tuple[str, ...] = ()

    def __init__(self, name: str, paths: Sequence[Path]) -> None:
        self.name, self.paths = name, list(paths)
        self.skips: list[Skip] = []

    def studies(self) -> Iterator[StudyRecord]:
        """Yield a training study for each scan."""
        for path in self.paths:
            scan_id = path.name.split(".")[0]
            scan = ScanRecord(scan_id, path, rescale=RESCALE)
            yield StudyRecord(scan_id, scan_id, "train", (scan,))


def _write(path: Path, shape: Size3D, spacing_mm: Spacing3D) -> None:
    import nibabel

    z, y, x = spacing_mm
    affine = np.diag([-x, -y, z, 1.0])  # the axes of CT-RATE's files
    stored = chest(shape) - np.int16(RESCALE.intercept)
    nibabel.save(nibabel.Nifti1Image(stored.transpose(2, 1, 0), affine), path)
    with path.open("rb") as file:
        os.fsync(file.fileno())  # else its pages cannot be evicted


def chest(shape: Size3D) -> np.ndarray:
    """Draw a body with lungs, a spine and smooth noise, in whole HU."""
    depth, height, width = shape
    generator = np.random.default_rng(0)
    y, x = np.ogrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    body = (x / 0.85) ** 2 + (y / 0.62) ** 2 < 1
    spine = (x / 0.1) ** 2 + ((y - 0.45) / 0.1) ** 2 < 1
    array = np.empty(shape, np.int16)
    for index in range(depth):
        plane = np.where(body, 40.0, -1000.0).astype(np.float32)
        extent = np.sqrt(1 - 0.8 * (2 * index / depth - 1) ** 2)
        for side in (-0.38, 0.38):
            plane[((x - side) / 0.3) ** 2 + (y / 0.42) ** 2 < extent] = -850.0
        plane[spine] = 350.0
        noise = generator.standard_normal((height, width), dtype=np.float32)
        for axis in (0, 1):  # a reconstruction kernel: neighbours are correlated
            noise = (noise + (np.roll(noise, 1, axis) + np.roll(noise, -1, axis)) / 2) / 1.22
        plane += noise * np.where(body, _NOISE_HU, _NOISE_IN_AIR_HU).astype(np.float32)
        plane[x**2 + y**2 > 1] = -1024.0  # outside the scanner's circle
        array[index] = np.clip(np.rint(plane), -1024, 3071)
    return array


def evict(path: Path) -> bool:
    """Drop a file from the page cache; returns whether its start is really gone."""
    if not hasattr(os, "posix_fadvise"):
        return False
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        try:
            os.preadv(file.fileno(), [bytearray(1)], 0, os.RWF_NOWAIT)
        except BlockingIOError:
            return True
        except (OSError, AttributeError):  # not a local file system, or not Linux
            return False
    return False
