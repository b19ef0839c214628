"""Write a folder of scans as a user may have it: mixed formats, odd names, one table of all.

`studies.csv` starts with a byte order mark, as spreadsheets write it. Scans are NIfTI files with
blanks and letters beyond ASCII in their names, DICOM series, bare arrays whose geometry the table
states, and MetaImages; organ masks lie beside them.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medvlp.phantom.chest_truth import attributes, write_masks
from medvlp.phantom.chest_twin import chest_facts, chest_writer
from medvlp.phantom.ct_rate_plan import (
    Reconstruction,
    Session,
    plan_reconstructions,
)
from medvlp.phantom.finding import LABELS
from medvlp.phantom.folder_formats import FORMATS, slice_name, write_npz_volume
from medvlp.phantom.nifti_file import write_bytes, write_nifti
from medvlp.phantom.reports import write_report
from medvlp.phantom.study import PhantomStudy, paint_study
from medvlp.phantom.tables import Row, write_table
from medvlp.phantom.twin_parameters import TwinParameters

FORMAT_VERSION = 1
TABLE = "studies.csv"
_SHARED = ("study_id", "patient_id", "path", "split", "sex", "age", "modality")
COLUMNS = (*_SHARED, "spacing_mm", "orientation", "anatomy_mask", "Findings", "Impression", *LABELS)
_KINDS = (
    "normal",
    "empty file",
    "empty folder",
    "missing slice",
    "link to itself",
    "path that leads out",
    "absent file",
    "label slip",
)
_BROKEN_PATHS = {
    "empty file": "broken/empty.nii.gz",
    "empty folder": "broken/empty",
    "link to itself": "broken/loop.nii.gz",
    "path that leads out": "../elsewhere.nii.gz",
    "absent file": "broken/absent.nii.gz",
}
_FORMAT_OF = {"missing slice": 1, "label slip": 0}  # places in FORMATS
_SPLIT = {"train": "train", "valid": "test"}


@dataclass(frozen=True)
class _Written:
    session: Session
    row: Row
    truth: dict[str, Any]


def write_folder_twin(
    root: str | Path, parameters: TwinParameters, *, num_workers: int = 0
) -> Path:
    """Write the folder; arguments and errors are those of `TwinWriter.build`.

    `root` gets the scans, `studies.csv`, `ground_truth/` and `twin.json`. Hard cases are what
    users' folders have: an empty file, an empty folder, a series that lacks a slice, a link to
    itself, a path that leads out of the folder, an absent file, and a label that is neither 0 nor
    1.

    Raises:
        ImportError: If pydicom is missing.
    """
    writer = chest_writer(
        "a user's folder",
        FORMAT_VERSION,
        write=_write,
        write_tables=_write_tables,
        hard_kinds=_KINDS,
    )
    return writer.build(root, parameters, num_workers=num_workers)


def _write_tables(root: Path, written: list[_Written]) -> dict[str, Any]:
    rows = [entry.row for entry in written]
    write_table(root / TABLE, COLUMNS, rows, encoding="utf-8-sig")
    truth = {str(entry.row["study_id"]): entry.truth for entry in written}
    readable = sum(entry.session.hard_case not in _BROKEN_PATHS for entry in written)
    return chest_facts(root, [entry.session for entry in written], truth, readable)


def _write(root: Path, parameters: TwinParameters, session: Session) -> _Written:
    study = session.study(parameters)
    volume = plan_reconstructions(session, study, parameters.shape)[0]
    number = 10 * session.patient + "abc".index(session.letter)
    number += 5000 if session.split == "valid" else 0
    kind = _FORMAT_OF.get(session.hard_case, number // 10 % len(FORMATS))
    broken = _BROKEN_PATHS.get(session.hard_case)
    name = broken or FORMATS[kind][0].format(number=number)
    if broken:
        _break(root, session.hard_case)
    elif not (root / _mask(number)).exists():
        _write_scan(root, (session, study, volume), number, kind)
    bare = not broken and FORMATS[kind][1] is write_npz_volume
    report = write_report(
        study, np.random.default_rng((*session.study_seed, 800)), thickness_mm=1.0
    )
    row: Row = {
        "study_id": f"{number:03d}",
        "patient_id": f"{session.split}{session.patient}",
        "path": name,
        "split": _SPLIT[session.split],
        "sex": study.thorax.sex,
        "modality": "CT",
        "spacing_mm": " ".join(f"{step:g}" for step in volume.grid.spacing_mm) if bare else "",
        "orientation": "SPL" if bare else "",
        "anatomy_mask": "" if broken else _mask(number),
        "Findings": report.findings,
        "Impression": report.impression,
        **{label: int(label in study.names) for label in LABELS},
        **({LABELS[0]: "l"} if session.hard_case == "label slip" else {}),
    }
    findings = [attributes(study, finding) for finding in study.findings]
    truth = {"split": row["split"], "sex": study.thorax.sex, "path": name, "findings": findings}
    return _Written(session, row, truth)


def _mask(number: int) -> str:
    return f"masks/{number:03d}.nii.gz"


def _write_scan(
    root: Path, case: tuple[Session, PhantomStudy, Reconstruction], number: int, kind: int
) -> None:
    """Write a scan and its masks; the organ mask last: its presence means all are there."""
    session, study, volume = case
    template, write = FORMATS[kind]
    path = root / template.format(number=number)
    painted = paint_study(study, volume.grid, volume.kernel, volume.noise_seed)
    hu = painted.int16()
    write(path, hu, volume.grid, number)
    if session.hard_case == "missing slice":
        (path / slice_name(number, len(hu), len(hu) // 2)).unlink()
    write_masks(root, f"{number:03d}.nii.gz", painted, volume.grid.affine())
    (root / "masks").mkdir(exist_ok=True)
    write_nifti(root / _mask(number), painted.organs, volume.grid.affine())


def _break(root: Path, case: str) -> None:
    path = root / _BROKEN_PATHS[case]
    if case == "empty folder":
        path.mkdir(parents=True, exist_ok=True)
    elif case in ("empty file", "link to itself"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        if case == "empty file":
            write_bytes(path, b"")
        else:
            path.symlink_to(path.name)
