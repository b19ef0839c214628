"""Write one session of a CT-RATE twin: its volumes, their masks, and its rows of the tables."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int16

from medvlp.phantom.chest_truth import truth_of, write_masks
from medvlp.phantom.ct_rate_plan import Reconstruction, Session, plan_reconstructions
from medvlp.phantom.ct_rate_tables import label_row, metadata_row, report_row
from medvlp.phantom.nifti_file import write_nifti
from medvlp.phantom.reports import Report, write_report
from medvlp.phantom.study import PaintedVolume, paint_study
from medvlp.phantom.tables import Row
from medvlp.phantom.twin_parameters import TwinParameters


@dataclass(frozen=True)
class Layout:
    """How a version of CT-RATE keeps its volumes.

    Attributes:
        folder: Under `dataset/`, with {split} in it.
        store: Writes one painted volume; called as `store(path, session, volume, painted)`.
    """

    folder: str
    store: Callable[[Path, Session, Reconstruction, PaintedVolume], None]


@dataclass(frozen=True)
class WrittenSession:
    """What a session adds to the tables.

    Attributes:
        session: Which.
        metadata: A row per volume.
        reports: A row per volume.
        labels: A row per volume.
        truth: What is true of its findings, for `ground_truth/studies.json`.
        report: What is said of it.
    """

    session: Session
    metadata: list[Row]
    reports: list[Row]
    labels: list[Row]
    truth: dict[str, Any]
    report: Report


def write_session(
    layout: Layout, root: Path, parameters: TwinParameters, session: Session
) -> WrittenSession:
    """Write the volumes that are not there yet; say what belongs into the tables."""
    study = session.study(parameters)
    volumes = plan_reconstructions(session, study, parameters.shape)
    rng = np.random.default_rng((*session.study_seed, 800))
    report = write_report(study, rng, thickness_mm=round(volumes[0].grid.spacing_mm[0], 1))
    top = root / "dataset" / layout.folder.format(split=session.split)
    folder = top / session.patient_name / session.name
    folder.mkdir(parents=True, exist_ok=True)
    for volume in volumes:
        path = folder / f"{volume.name}.nii.gz"
        if not path.exists():
            painted = paint_study(study, volume.grid, volume.kernel, volume.noise_seed)
            write_masks(root, path.name, painted, volume.grid.affine())
            layout.store(path, session, volume, painted)  # last: its presence means all are there
    files = [f"{volume.name}.nii.gz" for volume in volumes]
    return WrittenSession(
        session,
        [metadata_row(session, study, volume) for volume in volumes],
        [report_row(volume, report) for volume in volumes],
        [label_row(volume, study) for volume in volumes],
        {"split": session.split, **truth_of(study, files)},
        report,
    )


def store_raw(path: Path, session: Session, volume: Reconstruction, painted: PaintedVolume) -> None:
    """Write a volume as v1 has it: raw numbers, whose rule is in the metadata table only."""
    raw, share = raw_numbers(painted, volume), 0.6 if volume.truncated else 1.0
    write_nifti(path, raw, volume.grid.affine(), share=share)


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
