"""What the head and brain twins share: names out of seeds, lattices, tables, ground truth."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from medvlp.phantom.head_canvas import FINDINGS, ORGANS, finding_id
from medvlp.phantom.head_nifti import write_scan
from medvlp.phantom.head_reports import HeadReport
from medvlp.phantom.head_scan import Lattice, lattice, take_mask
from medvlp.phantom.head_study import EXTENT_MM, HeadStudy, PaintedHead
from medvlp.phantom.tables import Row, write_json, write_table
from medvlp.phantom.twin_parameters import TwinParameters
from medvlp.types import Size3D, Spacing3D

STRIPPED_EXTENT_MM, STRIPPED_CENTER_MM = (158.0, 192.0, 156.0), (8.0, 0.0, 0.0)
"""What is covered along z, y, x where scalp and skull were taken away, and around what."""

HARD_SEED = 977
_SPLIT_NUMBER = {"train": 0, "val": 1, "test": 2}
_FINEST_MM, _COARSEST_MM = 1.5, 3.6
_AXIAL_SHARE = 0.84  # of the extent: neck and air above are left out

Seed = tuple[int, ...]
"""The same for a study whatever the number of studies."""


@runtime_checkable
class PlannedHead(Protocol):
    """What every plan of a head study has."""

    @property
    def split(self) -> str:
        """Return train, val or test."""
        ...

    @property
    def hard_case(self) -> str:
        """Return which hard case this is; empty for ordinary studies."""
        ...


@runtime_checkable
class WrittenHead(Protocol):
    """What every written head study adds to the tables."""

    @property
    def study(self) -> str:
        """Return its id in the data set."""
        ...

    @property
    def planned(self) -> PlannedHead:
        """Return what was to be written."""
        ...

    @property
    def report(self) -> HeadReport:
        """Return its report."""
        ...

    @property
    def truth(self) -> dict[str, Any]:
        """Return what `ground_truth/studies.json` says of it."""
        ...


def ordinary_studies(parameters: TwinParameters) -> Iterator[tuple[str, int, Seed]]:
    """List split, number within it and seed of all studies but the hard cases."""
    for split, count in (("train", parameters.num_train), ("test", parameters.num_test)):
        for number in range(count):
            yield split, number, (parameters.seed, _SPLIT_NUMBER[split], number)


def hard_seed(parameters: TwinParameters, number: int) -> Seed:
    """Return the seed of a hard case."""
    return (parameters.seed, HARD_SEED, number)


def in_plane_mm(shape: Size3D) -> float:
    """Return the distance of voxels within an axial slice of the whole head."""
    return round(EXTENT_MM[1] / shape[1], 4)


def thick_spacing_mm(shape: Size3D, slice_mm: float) -> Spacing3D:
    """Return the voxels of a thick slice: thicker than wanted if there would be too many."""
    thickest = round(_AXIAL_SHARE * EXTENT_MM[0] / shape[0], 4)
    return max(slice_mm, thickest), in_plane_mm(shape), in_plane_mm(shape)


def reference_mm(shape: Size3D) -> float:
    """Return the distance of voxels of the lattice on which heads are painted."""
    return float(np.clip(0.9 * in_plane_mm(shape), _FINEST_MM, _COARSEST_MM))


def digits(rng: np.random.Generator, count: int, alphabet: str = "0123456789") -> str:
    """Draw a name."""
    return "".join(alphabet[int(i)] for i in rng.integers(len(alphabet), size=count))


def isotropic_lattice(
    spacing_mm: float, *, stripped: bool, flip: Sequence[bool] = (False, False, False)
) -> Lattice:
    """Cover a head with cubes."""
    extent = STRIPPED_EXTENT_MM if stripped else EXTENT_MM
    center = STRIPPED_CENTER_MM if stripped else (0.0, 0.0, 0.0)
    return lattice("axial", extent, (spacing_mm,) * 3, center_mm=center, flip=flip)


def thick_lattice(
    plane: str,
    spacing_mm: Sequence[float],
    rng: np.random.Generator,
    *,
    tilt_deg: float = 0.0,
    gantry_deg: float = 0.0,
    flip: Sequence[bool] = (False, False, False),
) -> Lattice:
    """Cover a head with few thick slices, off centre by some millimetres."""
    high, deep, wide = EXTENT_MM
    extent = {
        "axial": (_AXIAL_SHARE * high, deep, wide),
        "coronal": (0.86 * deep, high, wide),
        "sagittal": (0.86 * wide, high, deep),
    }[plane]
    offset = rng.uniform(-4, 4, 3) + np.asarray([6.0 if plane == "axial" else 0.0, 0.0, 0.0])
    return lattice(
        plane,
        extent,
        spacing_mm,
        tilt_deg=tilt_deg,
        gantry_deg=gantry_deg,
        center_mm=offset.tolist(),
        flip=flip,
    )


def write_truth(root: Path, name: str, painted: PaintedHead, where: Lattice) -> None:
    """Write the masks of organs and findings on the lattice of a scan."""
    for which in ("organs", "findings"):
        mask = take_mask(painted, which, where)
        write_scan(root / "ground_truth" / which / f"{name}.nii.gz", mask, where)


def truth_of(study: HeadStudy) -> dict[str, Any]:
    """State what is true of a study; places in RAS millimetres, as the affines have them."""
    scale = np.asarray(study.head.scale)
    findings = []
    for lesion in study.lesions:
        parts = (lesion.points * scale)[:, ::-1] * np.asarray([-1.0, -1.0, 1.0])
        findings.append(
            {
                "kind": lesion.kind,
                "id": finding_id(lesion.kind),
                "side": lesion.side,
                "place": lesion.place,
                "size_mm": round(lesion.size_mm, 1),
                "center_ras_mm": np.round(parts.mean(0), 1).tolist(),
                "old": lesion.old,
            }
        )
    return {
        "sex": study.head.sex,
        "age": study.head.age,
        # positive x of RAS is the patient's right
        "midline_shift_ras_mm": round(-study.head.shift_mm, 1),
        "large_ventricles": study.large_ventricles,
        "findings": findings,
    }


def write_additions(root: Path, written: Sequence[WrittenHead]) -> None:
    """Write `splits.csv` and `reports.csv`, which sets for testing only lack."""
    splits: list[Row] = [{"study": one.study, "split": one.planned.split} for one in written]
    write_table(root / "splits.csv", ("study", "split"), splits)
    reports: list[Row] = [
        {
            "study": one.study,
            "findings": one.report.findings,
            "impression": one.report.impression,
        }
        for one in written
    ]
    write_table(root / "reports.csv", ("study", "findings", "impression"), reports)


def head_facts(root: Path, written: Sequence[WrittenHead], num_volumes: int) -> dict[str, Any]:
    """Write `ground_truth/labels.json` and `studies.json`; return what `twin.json` states."""
    ids = {
        "organs": dict(enumerate(ORGANS)),
        "findings": {finding_id(kind): kind for kind in FINDINGS},
    }
    write_json(root / "ground_truth" / "labels.json", ids)
    write_json(root / "ground_truth" / "studies.json", {one.study: one.truth for one in written})
    hard = [
        {"kind": one.planned.hard_case, "study": one.study}
        for one in written
        if one.planned.hard_case
    ]
    return {"num_volumes": num_volumes, "hard_cases": hard}
