"""One scan of a data set as its record states it, with what belongs to it."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from medvlp.data.readers.arrays import read_array
from medvlp.data.readers.nifti import read_nifti_stack
from medvlp.data.readers.registry import read
from medvlp.data.records import ScanRecord
from medvlp.data.scan import Scan

_WITHOUT = {
    "anatomy_mask": "organ masks: masks=import masks_dir=..., or masks=totalsegmentator",
    "pet": "patches without it: data/recipe=hcl_al_ct or hcl_al_mr, and model.vision.in_channels=2",
    "lesion_mask": "lesion masks are a column lesion_mask of data=lesions, files of data=autopet",
}


def read_scan(
    record: ScanRecord, companions: Sequence[str] = (), arrays: Sequence[str] = ()
) -> Scan:
    """Read a scan as its data set states it, with the companions and arrays that are asked for.

    Raises:
        ValueError: If a file is damaged, the record lacks a companion or an array, or a companion
            that is a bare array has not the size of the scan.
    """
    missing = [name for name in companions if name not in record.companions]
    if missing:
        raise ValueError(
            f"{record.path}: the recipe needs {' and '.join(missing)} beside the scan, and the "
            f"data set has none ({'; '.join(_WITHOUT[name] for name in missing)})"
        )
    if lacking := [name for name in arrays if name not in record.arrays]:
        raise ValueError(
            f"{record.path}: the recipe needs {' and '.join(lacking)} beside the scan, and the "
            "data set states none for it; state them, or take a recipe that needs none"
        )
    if record.stack:
        scan = read_nifti_stack(record.path)
    else:
        scan = read(record.path, record.files, irregular=record.irregular)
    scan = scan.restated(
        spacing_mm=record.spacing_mm,
        rescale=record.rescale,
        orientation=record.orientation,
        modality=record.modality,
    )
    beside = {name: read_companion(record.companions[name], name, scan) for name in companions}
    others = {name: read_array(record.arrays[name]) for name in arrays}
    return replace(scan, companions=beside, arrays=others) if beside or others else scan


def read_companion(path: Path, name: str, scan: Scan) -> Scan:
    """Read a companion; a bare array of the scan's size lies where the scan lies."""
    companion = read(path)
    if companion.has_geometry:
        return companion
    if companion.array.shape != scan.array.shape:
        raise ValueError(
            f"{path}: {name} is a bare array, without geometry, of {companion.array.shape} voxels "
            f"and its scan {scan.provenance.get('path')} has {scan.array.shape}: it could lie "
            "anywhere; give NIfTI, or an array of the scan's size"
        )
    return replace(
        companion, affine=scan.affine, spacing_mm=scan.spacing_mm, orientation=scan.orientation
    )


def fingerprint(record: ScanRecord) -> str:
    """Say in a string what a scan is made of: its files, their sizes and times, what is stated."""
    paths = [*(record.files or (record.path,))]
    paths += [*record.companions.values(), *record.arrays.values()]
    series = [path for path in paths if path.is_dir()]
    paths += [path for folder in series for path in folder.rglob("*") if path.is_file()]
    states = [path.stat() for path in paths]
    geometry = (record.spacing_mm, record.rescale, record.orientation)
    stated = (*geometry, record.modality, record.irregular, record.stack)
    size = sum(state.st_size for state in states)
    return f"{len(states)} {size} {max(state.st_mtime_ns for state in states)} {stated}"
