"""Write one study of a Pub-Brain-5 twin: its series as the source has them, and their truth."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int16, UInt8

from medvlp.data.scan import orientation_of, reorient
from medvlp.phantom.head_canvas import finding_id
from medvlp.phantom.head_nifti import write_scan
from medvlp.phantom.head_reports import HeadReport, write_head_report
from medvlp.phantom.head_scan import Lattice, Look, take, take_mask
from medvlp.phantom.head_study import PaintedHead, paint_head_study, sample_head_study
from medvlp.phantom.head_twin import (
    isotropic_lattice,
    reference_mm,
    thick_lattice,
    thick_spacing_mm,
    truth_of,
    write_truth,
)
from medvlp.phantom.pub_brain_5_plan import CONTRAST_OF, KIND_OF, PlannedStudy
from medvlp.phantom.twin_parameters import TwinParameters

BRATS_FOLDER = {
    "train": "ASNR-MICCAI-BraTS2023-{}-Challenge-TrainingData",
    "test": "ASNR-MICCAI-BraTS2023-{}-Challenge-ValidationData",
}
_NUM_PERFUSION = 5
_NOISE = 12.0
_TUMOURS = tuple(finding_id(kind) for kind in ("glioma", "meningioma", "metastasis"))


@dataclass(frozen=True)
class WrittenStudy:
    """What a study adds to the tables.

    Attributes:
        planned: Which.
        target_slices: Slices that show the lesion; empty where the published table has no row.
        report: For training on the twin.
        truth: For `ground_truth/studies.json`.
    """

    planned: PlannedStudy
    target_slices: tuple[int, ...]
    report: HeadReport
    truth: dict[str, Any]

    @property
    def study(self) -> str:
        """Return the study's path below the published prefix."""
        return self.planned.study_id


def write_study(root: Path, parameters: TwinParameters, planned: PlannedStudy) -> WrittenStudy:
    """Write the series of a study; say what belongs into the tables."""
    kinds = [kind for kind in (KIND_OF[planned.label],) if kind]
    study = sample_head_study(planned.seed, planned.seed, kinds)
    contrasts = {"t1", "t1c", "b0", "dwi", *CONTRAST_OF.values()} if planned.series else set[str]()
    painted = paint_head_study(study, sorted(contrasts), spacing_mm=reference_mm(parameters.shape))
    rng = np.random.default_rng((*planned.seed, 7))
    folder = study_folder(root, planned)
    slices: tuple[int, ...] = ()
    for series in planned.series:
        where = _where(planned, series, parameters, rng)
        array = _array(painted, series, where, planned, rng)
        path = folder / f"{planned.name}-{series}.nii.gz"
        if planned.source != "brats23":
            path = folder / series / "nifti" / "SERIES.nii.gz"
        if planned.hard_case == "empty series" and series == "T2w":
            path.parent.mkdir(parents=True, exist_ok=True)  # the folder, and nothing in it
            continue
        write_truth(root, f"{planned.study_id}/{series}", painted, where)
        write_scan(path, array, where, share=0.5 if _is_corrupt(planned, series) else 1.0)
        if series in ("DWI", "t1c"):
            slices = _target_slices(planned, painted, where, channels=1 + (series == "DWI"))
            _write_annotation(folder, planned, painted, where)
    report = write_head_report(study, np.random.default_rng((*planned.seed, 8)))
    return WrittenStudy(planned, slices, report, {"split": planned.split, **truth_of(study)})


def study_folder(root: Path, planned: PlannedStudy) -> Path:
    """Return where the raw files of a study lie."""
    if planned.source != "brats23":
        return root / planned.source / planned.name
    dataset = "-".join(planned.name.split("-")[:2])
    folder = BRATS_FOLDER[planned.split].format(dataset.removeprefix("BraTS-"))
    return root / "brats23" / dataset / folder / planned.name


def _is_corrupt(planned: PlannedStudy, series: str) -> bool:
    return planned.hard_case == "all scans corrupt" or (
        planned.hard_case == "corrupt file" and series == "t2w"
    )


def _where(
    planned: PlannedStudy, series: str, parameters: TwinParameters, rng: np.random.Generator
) -> Lattice:
    if planned.hard_case == "odd spacing":
        spacing = (6.5, 2.1, 3.3)
        return thick_lattice("coronal", spacing, rng, tilt_deg=14.0, flip=(True, False, True))
    isotropic_mm = round(192.0 / parameters.shape[1], 4)
    if planned.source == "brats23":
        return isotropic_lattice(isotropic_mm, stripped=True)
    if planned.source == "open_bhb":  # on the MNI template: columns to the right, rows forwards
        return isotropic_lattice(isotropic_mm, stripped=True, flip=(False, True, True))
    if planned.source in ("nyu_mets", "ucsf_mets"):
        return isotropic_lattice(isotropic_mm, stripped=planned.source == "ucsf_mets")
    plane = "axial"
    if series in ("T1w", "T1wC"):
        plane = ("axial", "sagittal", "coronal")[int(rng.integers(3))]
    spacing = thick_spacing_mm(parameters.shape, float(rng.choice([5.0, 6.0, 6.5])))
    flip = (False, bool(rng.random() < 0.5), bool(rng.random() < 0.5))
    tilt_deg = float(rng.uniform(-12, 12)) if rng.random() < 0.3 else 0.0
    return thick_lattice(plane, spacing, rng, tilt_deg=tilt_deg, flip=flip)


def _array(
    painted: PaintedHead,
    series: str,
    where: Lattice,
    planned: PlannedStudy,
    rng: np.random.Generator,
) -> Int16[np.ndarray, "*c d h w"]:
    stripped = planned.source in ("brats23", "open_bhb", "ucsf_mets")
    look = Look(_NOISE, gain=float(rng.uniform(0.6, 4.0)), bias=0.08, stripped=stripped)

    def scan(contrast: str) -> Float[np.ndarray, "d h w"]:
        return take(painted, contrast, where, look, rng)

    if series == "DWI":  # channels in the published order: without and with diffusion weighting
        array = np.stack([scan("b0"), scan("dwi")])
    elif series == "PWI":
        array = np.stack([scan("t2") for _ in range(_NUM_PERFUSION)])
    elif series == "subtraction":
        array = np.maximum(scan("t1c") - scan("t1"), 0)
    else:
        array = scan(CONTRAST_OF[series])
    return np.clip(np.rint(array), 0, 32767).astype(np.int16)


def _target_slices(
    planned: PlannedStudy, painted: PaintedHead, where: Lattice, *, channels: int
) -> tuple[int, ...]:
    """List the slices of the stored array that show the lesion, as the published table does."""
    if planned.source not in ("stroke", "brats23") or planned.split == "test":
        return ()
    mask = take_mask(painted, "findings", where) == finding_id(KIND_OF[planned.label])
    view, _ = reorient(mask, orientation_of(where.affine), "IPR")
    hit = np.tile(view.any((1, 2)), channels)
    return tuple(np.flatnonzero(hit).tolist())


def _write_annotation(
    folder: Path, planned: PlannedStudy, painted: PaintedHead, where: Lattice
) -> None:
    """Write what annotators drew, under names that a reader must leave out."""
    ids = take_mask(painted, "findings", where)
    if planned.source == "brats23" and planned.split == "train":
        regions: UInt8[np.ndarray, "d h w"] = np.zeros(ids.shape, np.uint8)
        regions[ids == finding_id("edema")] = 2
        regions[np.isin(ids, _TUMOURS)] = 3
        write_scan(folder / f"{planned.name}-seg.nii.gz", regions, where)
    if planned.source == "stroke":
        mask = (ids == finding_id("stroke")).astype(np.uint8)
        write_scan(folder / "lesion_mask" / "nifti" / "SERIES.nii.gz", mask, where)
