"""Write a phantom twin of MR-RATE: its batches, tables, series names, masks and zip file.

Every class is seen with the same scanners, planes and numbers of series (one to eight), so nothing
but the findings tells them apart. Beside the published layout lies `ground_truth/` (masks of organs
and findings on the lattice of each series, `studies.json` with places and sizes).
"""

from pathlib import Path
from typing import Any

from medvlp.data.mr_rate import LABEL_NAMES, MRRate
from medvlp.phantom.head_twin import TwinParameters, build_twin, write_truth_tables
from medvlp.phantom.mr_rate_plan import plan_studies
from medvlp.phantom.mr_rate_study import WrittenStudy, write_study
from medvlp.phantom.source import TwinSource
from medvlp.phantom.tables import Row, write_table
from medvlp.types import Size3D

TITLE = "MR-RATE"
FORMAT_VERSION = 1
_REPORT_COLUMNS = (
    "study_uid",
    "report",
    "clinical_information",
    "technique",
    "findings",
    "impression",
)


def write_mr_rate_twin(
    root: str | Path,
    *,
    num_train: int,
    num_test: int,
    seed: int = 0,
    shape: Size3D = (48, 56, 56),
    num_workers: int = 0,
    hard_cases: bool = True,
) -> Path:
    """Write the twin; a finished one is left as it is.

    Args:
        root: Gets `mri/`, the tables, `ground_truth/` and `twin.json`.
        num_train: Training studies; every eighth of them is put under "val".
        num_test: Held-out studies.
        seed: Of everything.
        shape: Typical voxels along z, y, x; thick slices are fewer.
        num_workers: Processes; 0 writes in this one.
        hard_cases: Add a corrupt file, a study of corrupt files only, a row without a file, a
            folder without a row, a study without a report, one without labels, one still zipped,
            one of eight series.

    Returns:
        `root`.

    Raises:
        ValueError: If a parameter is out of range, or `root` holds something else.
    """
    return build_twin(
        root,
        TITLE,
        TwinParameters(num_train, num_test, seed, shape, hard_cases),
        version=FORMAT_VERSION,
        plan=plan_studies,
        write=write_study,
        write_tables=_write_tables,
        num_workers=num_workers,
    )


def _write_tables(root: Path, written: list[WrittenStudy]) -> dict[str, Any]:
    for batch in sorted({one.planned.batch for one in written}):
        entries = [one for one in written if one.planned.batch == batch]
        rows = [
            row
            for one in entries
            for row in one.metadata
            if one.planned.hard_case != "not in the metadata"
        ]
        columns = tuple(entries[0].metadata[0])
        write_table(root / "metadata" / f"{batch}_metadata.csv", columns, rows)
        reports = [_report_row(one) for one in entries if one.planned.hard_case != "no report"]
        path = root / "reports" / f"{batch}_reports.csv"
        encoding = "utf-8-sig" if batch == "batch01" else "utf-8"
        write_table(path, _REPORT_COLUMNS, reports, encoding=encoding)
    labels: list[Row] = [
        {"study_uid": one.planned.study} | {name: int(name in one.labels) for name in LABEL_NAMES}
        for one in sorted(written, key=lambda one: one.planned.study)
        if one.planned.hard_case != "no labels"
    ]
    path = root / "pathology_labels" / "mrrate_labels.csv"
    write_table(path, ("study_uid", *LABEL_NAMES), labels)
    splits: list[Row] = [
        {
            "batch_id": one.planned.batch,
            "patient_uid": one.planned.patient,
            "study_uid": one.planned.study,
            "split": one.planned.split,
        }
        for one in written
    ]
    write_table(root / "splits.csv", ("batch_id", "patient_uid", "study_uid", "split"), splits)
    write_truth_tables(root, {one.planned.study: one.truth for one in written})
    hard = [
        {"kind": one.planned.hard_case, "study": one.planned.study}
        for one in written
        if one.planned.hard_case
    ]
    return {"num_volumes": sum(len(one.planned.series) for one in written), "hard_cases": hard}


def _report_row(one: WrittenStudy) -> Row:
    technique = "Multiplanar multisequence MRI of the brain on [date_1]."
    return {
        "study_uid": one.planned.study,
        "report": f"Technique: {technique} Findings: {one.report.findings} "
        f"Impression: {one.report.impression}",
        "clinical_information": "" if one.planned.seed[-1] % 3 else "Headache.",
        "technique": technique,
        "findings": one.report.findings,
        "impression": one.report.impression,
    }


class PhantomMRRate(TwinSource, MRRate):
    """MR-RATE's twin, read by the very code that reads MR-RATE; see `TwinSource`."""

    name = "phantom_mr_rate"
    write_twin = staticmethod(write_mr_rate_twin)
