"""Write a phantom twin of BIMCV-R: folders CT<k>/ct, one table of reports in two languages.

The table is laid out as the published one, oddities included: paths of another machine, lists as
Python prints them, with empty entries and leading blanks, Spanish in lower case without commas, a
translation by machine, and all rows of training before those of testing.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medvlp.phantom.bimcv_r_words import findings_es, label_names
from medvlp.phantom.chest_truth import truth_of, write_masks
from medvlp.phantom.chest_twin import chest_facts, chest_writer
from medvlp.phantom.ct_rate_plan import (
    HARD_KINDS,
    Reconstruction,
    Session,
    plan_reconstructions,
)
from medvlp.phantom.nifti_file import write_nifti
from medvlp.phantom.reports import write_report
from medvlp.phantom.study import PhantomStudy, paint_study
from medvlp.phantom.tables import Row, write_table
from medvlp.phantom.twin_parameters import TwinParameters

FORMAT_VERSION = 1
FOLDER_SIZE = 16
"""Sessions to a folder; the real ones hold 500 volumes."""
COLUMNS = (
    "PatientID",
    "ReportID",
    "Report",
    "Labels",
    "Localizations",
    "LabelsLocalizationsBySentence",
    "labelCUIS",
    "LocalizationsCUIS",
    "num",
    "path",
    "Report_en",
)
KINDS = ("no report", *HARD_KINDS, "no row", "no file")
"""Hard cases of the first rows."""
_AWAY = "/data/BIMCV-COVID19-cIter_1_2_3/covid19_posi"


@dataclass(frozen=True)
class _Written:
    session: Session
    name: str
    rows: list[Row]
    truth: dict[str, Any]


def write_bimcv_r_twin(
    root: str | Path, parameters: TwinParameters, *, num_workers: int = 0
) -> Path:
    """Write the twin; arguments and errors are those of `TwinWriter.build`.

    `root` gets `CT<k>/`, `meta/`, `ground_truth/` and `twin.json`. Studies are sessions; those to
    train on fill the first rows of the table. Where the ones end and the others begin is up to who
    reads it, as with the real table. Hard cases are those of CT-RATE's twin, a volume without a
    row, a row without a volume and a row without a report.
    """
    writer = chest_writer(
        "BIMCV-R", FORMAT_VERSION, write=_write, write_tables=_write_tables, hard_kinds=KINDS
    )
    return writer.build(root, parameters, num_workers=num_workers)


def _write_tables(root: Path, written: list[_Written]) -> dict[str, Any]:
    rows = [row for entry in written for row in entry.rows]
    write_table(root / "meta" / "curated_ct_report_path_En.csv", COLUMNS, rows)
    truth = {entry.name: entry.truth for entry in written}
    num_volumes = len(list(root.glob("CT*/ct/*.nii.gz")))
    return chest_facts(root, [entry.session for entry in written], truth, num_volumes)


def _write(root: Path, parameters: TwinParameters, session: Session) -> _Written:
    study = session.study(parameters)
    volumes = plan_reconstructions(session, study, parameters.shape)
    before = 0 if session.split == "train" else parameters.num_train + len(KINDS)
    number = session.patient + before
    patient = f"sub-S{3000 + number:05d}"
    visit = f"ses-E{6000 + 10 * number + 'abc'.index(session.letter):05d}"
    folder = root / f"CT{(number - 1) // FOLDER_SIZE}" / "ct"
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"{patient}_{visit}_run-{run + 1}_bp-chest_ct.nii.gz" for run in range(len(volumes))]
    if session.hard_case != "no file":
        for name, volume in zip(names, volumes, strict=True):
            _write_volume(root, folder / name, study, volume)
    rows = [] if session.hard_case == "no row" else _rows(session, study, patient, visit, names)
    return _Written(session, f"{patient}_{visit}", rows, truth_of(study, names))


def _write_volume(root: Path, path: Path, study: PhantomStudy, volume: Reconstruction) -> None:
    if path.exists():
        return
    painted = paint_study(study, volume.grid, volume.kernel, volume.noise_seed)
    affine = volume.grid.affine()
    write_masks(root, path.name, painted, affine)
    hu = painted.int16()
    write_nifti(path, hu, affine, share=0.6 if volume.truncated else 1.0)


def _rows(
    session: Session, study: PhantomStudy, patient: str, visit: str, names: list[str]
) -> list[Row]:
    rng = np.random.default_rng((*session.study_seed, 800))
    report = write_report(study, rng, thickness_mm=1.0)
    labels = label_names(study)
    empty = session.hard_case == "no report"
    shared: Row = {
        "PatientID": patient,
        "ReportID": visit,
        "Report": "" if empty else findings_es(study),
        "Labels": str(labels),
        "Localizations": str(sorted({f"loc {f.side}" for f in study.findings if f.side})),
        "LabelsLocalizationsBySentence": str([*labels, "exclude"]),
        "labelCUIS": "[]",
        "LocalizationsCUIS": "[]",
        "num": float(len(names)),
        "Report_en": "" if empty else report.findings,
    }
    return [shared | {"path": f"{_AWAY}/{patient}/{visit}/mod-rx/{name}"} for name in names]
