"""Write a phantom twin of MR-RATE: its batches, tables, series names, masks and zip file.

Every class is seen with the same scanners, planes and numbers of series (one to eight), so nothing
but the findings tells them apart. Beside the published layout lies `ground_truth/` (masks of organs
and findings on the lattice of each series, `studies.json` with places and sizes).
"""

from pathlib import Path
from typing import Any

from medvlp.data.mr_rate import LABEL_NAMES, MRRate
from medvlp.phantom.head_twin import head_facts
from medvlp.phantom.mr_rate_plan import chosen_kinds, plan_studies
from medvlp.phantom.mr_rate_study import WrittenStudy, write_study
from medvlp.phantom.source import TwinSource
from medvlp.phantom.tables import Row, write_table
from medvlp.phantom.twin import TwinWriter
from medvlp.phantom.twin_parameters import TwinParameters

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
    root: str | Path, parameters: TwinParameters, *, num_workers: int = 0
) -> Path:
    """Write the twin; arguments and errors are those of `TwinWriter.build`.

    `root` gets `mri/`, the tables, `ground_truth/` and `twin.json`. Every eighth study to train on
    is put under "val". Hard cases are a corrupt file, a study of corrupt files only, a row without
    a file, a folder without a row, a study without a report, one without labels, one still zipped,
    and one of eight series.
    """
    writer = TwinWriter(
        TITLE, FORMAT_VERSION, plan_studies, write_study, _write_tables, takes_kinds=True
    )
    return writer.build(root, parameters, num_workers=num_workers)


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
    return head_facts(root, written, sum(len(one.planned.series) for one in written))


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
    """MR-RATE's twin, read by the very code that reads MR-RATE; see `TwinSource`.

    Its kinds are "normal" and the keys of `TERMS`.
    """

    name = "phantom_mr_rate"
    write_twin = staticmethod(write_mr_rate_twin)

    def adapt(self) -> None:
        """Refuse unknown kinds at once."""
        chosen_kinds(self.parameters)
