"""Write one session of a CT-RATE twin: its volumes, their masks, and its rows of the tables."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int16

from medvlp.phantom.ct_rate_plan import (
    Reconstruction,
    Session,
    TwinParameters,
    plan_reconstructions,
)
from medvlp.phantom.ct_rate_tables import label_row, metadata_row, report_row
from medvlp.phantom.finding import Finding, finding_id
from medvlp.phantom.nifti_file import write_nifti
from medvlp.phantom.reports import write_report
from medvlp.phantom.study import PaintedVolume, PhantomStudy, paint_study
from medvlp.phantom.tables import Row


@dataclass(frozen=True)
class WrittenSession:
    """What a session adds to the tables.

    Attributes:
        session: Which.
        metadata: A row per volume.
        reports: A row per volume.
        labels: A row per volume.
        truth: What is true of its findings, for `ground_truth/studies.json`.
    """

    session: Session
    metadata: list[Row]
    reports: list[Row]
    labels: list[Row]
    truth: dict[str, Any]


def write_session(root: Path, parameters: TwinParameters, session: Session) -> WrittenSession:
    """Write the volumes that are not there yet; say what belongs into the tables."""
    study = session.study(parameters.prevalence)
    volumes = plan_reconstructions(session, study, parameters.shape)
    rng = np.random.default_rng((*session.study_seed, 800))
    report = write_report(study, rng, thickness_mm=round(volumes[0].grid.spacing_mm[0], 1))
    folder = root / "dataset" / session.split / session.patient_name / session.name
    folder.mkdir(parents=True, exist_ok=True)
    for volume in volumes:
        _write_volume(root, folder, study, volume)
    truth = {
        "split": session.split,
        "sex": study.thorax.sex,
        "volumes": [f"{volume.name}.nii.gz" for volume in volumes],
        "findings": [_attributes(study, finding) for finding in study.findings],
    }
    return WrittenSession(
        session,
        [metadata_row(session, study, volume) for volume in volumes],
        [report_row(volume, report) for volume in volumes],
        [label_row(volume, study) for volume in volumes],
        truth,
    )


def _write_volume(root: Path, folder: Path, study: PhantomStudy, volume: Reconstruction) -> None:
    """Write a volume and its masks; the volume last, so that its presence means all are there."""
    name = f"{volume.name}.nii.gz"
    if (folder / name).exists():
        return
    painted = paint_study(study, volume.grid, volume.kernel, volume.noise_seed)
    affine = volume.grid.affine()
    write_nifti(root / "ground_truth" / "organs" / name, painted.organs, affine)
    write_nifti(root / "ground_truth" / "findings" / name, painted.findings, affine)
    raw = raw_numbers(painted, volume)
    write_nifti(folder / name, raw, affine, share=0.6 if volume.truncated else 1.0)


def raw_numbers(painted: PaintedVolume, volume: Reconstruction) -> Int16[np.ndarray, "d h w"]:
    """Return stored numbers: HU less the table's intercept, 0 outside the scanner's circle."""
    hu = painted.hu
    np.clip(hu, -1024, 3071, out=hu)
    hu -= np.float32(volume.scanner["intercept"])
    raw = np.rint(hu, out=hu).astype(np.int16)
    y, x = (np.linspace(-1, 1, size, dtype=np.float32) for size in raw.shape[1:])
    # a field that is not square keeps the circle of its longer side
    longest = max(raw.shape[1:])
    y, x = y * (raw.shape[1] / longest), x * (raw.shape[2] / longest)
    raw *= (y[:, None] ** 2 + x[None, :] ** 2 <= 1.0).astype(np.int16)
    return raw


def _attributes(study: PhantomStudy, finding: Finding) -> dict[str, Any]:
    """State what is true of a finding; places in RAS millimetres, as the affine has them."""
    points = finding.points * np.asarray(study.thorax.scale)
    parts = np.round(points[:, ::-1] * np.asarray([-1.0, -1.0, 1.0]), 1)
    return {
        "name": finding.name,
        "id": finding_id(finding.name),
        "side": finding.side,
        "place": finding.place,
        "degree": finding.degree,
        "size_mm": round(study.size_mm(finding), 1),
        "center_ras_mm": np.round(parts.mean(0), 1).tolist() if len(parts) else None,
    }
