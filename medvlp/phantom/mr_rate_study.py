"""Write one study of an MR-RATE twin: defaced volumes, masks, and its rows of the tables."""

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool

from medvlp.data.mr_rate import LABEL_NAMES
from medvlp.phantom.head_nifti import write_scan
from medvlp.phantom.head_reports import HeadReport, write_head_report
from medvlp.phantom.head_scan import Lattice, Look, take, take_mask
from medvlp.phantom.head_study import (
    HeadStudy,
    PaintedHead,
    paint_head_study,
    sample_head_study,
)
from medvlp.phantom.head_twin import (
    in_plane_mm,
    isotropic_lattice,
    reference_mm,
    thick_lattice,
    thick_spacing_mm,
    truth_of,
    write_truth,
)
from medvlp.phantom.mr_rate_plan import TERMS, WITH_EDEMA, PlannedStudy, Series
from medvlp.phantom.nifti_file import write_bytes
from medvlp.phantom.tables import Row
from medvlp.phantom.twin_parameters import TwinParameters

_NOISE = 12.0
_BRAIN_ORGANS = range(3, 10)  # of head_canvas.ORGANS: fluid to brain stem


@dataclass(frozen=True)
class WrittenStudy:
    """What a study adds to the tables.

    Attributes:
        planned: Which.
        metadata: A row per series.
        report: Its report.
        labels: Names of what is present.
        truth: For `ground_truth/studies.json`.
    """

    planned: PlannedStudy
    metadata: list[Row]
    report: HeadReport
    labels: frozenset[str]
    truth: dict[str, Any]

    @property
    def study(self) -> str:
        """Return the study's UID."""
        return self.planned.study


def write_study(root: Path, parameters: TwinParameters, planned: PlannedStudy) -> WrittenStudy:
    """Write the series of a study; say what belongs into the tables."""
    large = "ventriculomegaly" in planned.kinds
    kinds = [kind for kind in planned.kinds if kind != "ventriculomegaly"]
    study = sample_head_study(planned.person_seed, planned.seed, kinds, large_ventricles=large)
    contrasts = sorted({series.contrast for series in planned.series})
    painted = paint_head_study(study, contrasts, spacing_mm=reference_mm(parameters.shape))
    rng = np.random.default_rng((*planned.seed, 7))
    metadata: list[Row] = []
    for series in planned.series:
        where = _where(series, parameters, rng)
        metadata.append(_metadata_row(planned, series, study, where, rng))
        if planned.hard_case == "series without a file" and series is planned.series[-1]:
            continue
        _write_series(root, planned, series, painted, where, rng)
    if planned.hard_case == "still zipped":
        _zip(root, planned)
    report = write_head_report(study, np.random.default_rng((*planned.seed, 8)), terms=TERMS)
    return WrittenStudy(
        planned, metadata, report, _labels(study), {"split": planned.split, **truth_of(study)}
    )


def _labels(study: HeadStudy) -> frozenset[str]:
    names = {TERMS[kind] for kind in study.kinds}
    if study.kinds & WITH_EDEMA:
        names.add("Cerebral edema")
    if study.large_ventricles:
        names.add("Ventriculomegaly")
    return frozenset(names) & frozenset(LABEL_NAMES)


def _where(series: Series, parameters: TwinParameters, rng: np.random.Generator) -> Lattice:
    flip = (False, bool(rng.random() < 0.5), bool(rng.random() < 0.5))
    if series.contrast == "t1c" and rng.random() < 0.4:  # a 3D sequence
        return isotropic_lattice(in_plane_mm(parameters.shape), stripped=False, flip=flip)
    spacing = thick_spacing_mm(parameters.shape, float(rng.choice([5.0, 5.5, 6.5])))
    tilt_deg = float(rng.uniform(-15, 15)) if rng.random() < 0.3 else 0.0
    return thick_lattice(series.plane, spacing, rng, tilt_deg=tilt_deg, flip=flip)


def _write_series(
    root: Path,
    planned: PlannedStudy,
    series: Series,
    painted: PaintedHead,
    where: Lattice,
    rng: np.random.Generator,
) -> None:
    look = Look(_NOISE, gain=float(rng.uniform(0.4, 6.0)), bias=0.08)
    signal = take(painted, series.contrast, where, look, rng)
    face = _face(where)
    signal[face] = 0
    array = np.clip(np.rint(signal), 0, 65535).astype(np.uint16)
    if rng.random() < 0.2:  # the published volumes are one or the other
        array = array.astype(np.float32)
    corrupt = planned.hard_case == "all scans corrupt" or (
        planned.hard_case == "corrupt file" and series is planned.series[0]
    )
    folder = root / "mri" / planned.batch / planned.study
    name = f"{planned.study}_{series.series_id}"
    brain = np.isin(take_mask(painted, "organs", where), _BRAIN_ORGANS).astype(np.uint8)
    write_truth(root, name, painted, where)
    write_scan(folder / "seg" / f"{name}_brain-mask.nii.gz", brain, where)
    write_scan(folder / "seg" / f"{name}_defacing-mask.nii.gz", face.astype(np.uint8), where)
    write_scan(folder / "img" / f"{name}.nii.gz", array, where, share=0.5 if corrupt else 1.0)


def _face(where: Lattice) -> Bool[np.ndarray, "d h w"]:
    """Say which voxels lie in the face: in front of and below a slanted plane."""
    k, j, i = np.indices(where.size, sparse=True)
    affine = where.affine
    _, forwards, up = (
        affine[row, 0] * i + affine[row, 1] * j + affine[row, 2] * k + affine[row, 3]
        for row in range(3)
    )
    return (forwards - 0.4 * up > 78) & (up < 0)


def _metadata_row(
    planned: PlannedStudy,
    series: Series,
    study: HeadStudy,
    where: Lattice,
    rng: np.random.Generator,
) -> Row:
    shape, spacing = where.size[::-1], [round(mm, 4) for mm in where.spacing_mm[::-1]]
    flair, t1 = series.modality == "FLAIR", series.modality == "T1w"
    first_t1 = next((s for s in planned.series if s.contrast == "t1"), None)
    return {
        "patient_uid": planned.patient,
        "study_uid": planned.study,
        "series_id": series.series_id,
        "classified_modality": series.modality,
        "is_derived": "False",
        "acquisition_plane": series.plane.upper(),
        "SeriesNumber": series.number,
        "is_localizer": "False",
        "is_subtraction": "False",
        "is_center_modality": str(series is first_t1),
        "anon_study_date": f"2021-{rng.integers(1, 13):02d}-{rng.integers(1, 29):02d}",
        "classification_rule": "keyword",
        "sequence_family": "IR" if flair else "SE",
        "array_shape": str(list(shape)),
        "array_spacing_mm": str(spacing),
        "array_fov_mm": str([round(n * mm, 2) for n, mm in zip(shape, spacing, strict=True)]),
        "Patient'sAge": study.head.age,
        "Patient'sSex": study.head.sex,
        "FlipAngle": 150 if flair else 90,
        "TI_ms": 2500 if flair else "",
        "TE_ms": 12 if t1 else 95,
        "TR_ms": 550 if t1 else 8000 if flair else 4500,
        "FieldStrength_T": 1.5,
        "Manufacturer": ("SIEMENS", "Philips Medical Systems")[planned.seed[-1] % 2],
        "Manufacturer'sModelName": ("Aera", "Ingenia")[planned.seed[-1] % 2],
    }


def _zip(root: Path, planned: PlannedStudy) -> None:
    """Pack the study as the hub has it, and take the folder away."""
    folder = root / "mri" / planned.batch / planned.study
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for path in sorted(folder.rglob("*.nii.gz")):
            stamp = zipfile.ZipInfo(str(path.relative_to(folder.parent)))
            archive.writestr(stamp, path.read_bytes())
            path.unlink()
    write_bytes(folder.with_suffix(".zip"), content.getvalue())
    for part in (folder / "img", folder / "seg", folder):
        part.rmdir()
