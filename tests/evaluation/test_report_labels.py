import csv
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score, precision_recall_fscore_support

from medvlp.data.ct_rate import LABEL_NAMES
from medvlp.evaluation.report_labels import ReportLabels

SHARED = Path(os.environ.get("MEDVLP_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data"))
REPORTS = SHARED / "ct_rate_reports" / "val.csv"


@pytest.mark.parametrize(
    ("report", "labels"),
    [
        ("A few small lymph nodes are seen in the mediastinum.", ["Lymphadenopathy"]),
        ("No lymph node of pathological size is seen.", []),
        ("Lymph nodes are of normal size.", []),
        ("Intrapulmonary lymph node.", []),
        ("Ground glass density around nodular infiltration.", ["Lung opacity"]),
        ("A nodule with ground glass around it.", ["Lung nodule", "Lung opacity"]),
        ("Pleuroparenchymal sequelae density increases.", ["Pulmonary fibrotic sequela"]),
        ("Fibroatelectatic bands at the bases.", ["Pulmonary fibrotic sequela"]),
        ("A density increase in the right lower lobe.", ["Lung opacity"]),
        ("Density increase of the subcutaneous tissue.", []),
        ("Interlobular septal thickness increases.", ["Interlobular septal thickening"]),
        ("Bronchiolectasis at the left base.", ["Bronchiectasis"]),
        ("A paraesophageal hernia is seen.", ["Hiatal hernia"]),
    ],
)
def test_findings_in_the_words_of_reports(report: str, labels: list[str]) -> None:
    found = ReportLabels(LABEL_NAMES)(report)
    assert [LABEL_NAMES[k] for k in np.flatnonzero(found)] == labels


@pytest.mark.skipif(not REPORTS.is_file(), reason=f"no real reports at {REPORTS}")
def test_labels_of_real_reports_agree_with_those_given() -> None:
    """Tell how well (`pytest -rP`) on the reports that the rules were not mended on."""
    with REPORTS.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))[1::2]
    read = ReportLabels(LABEL_NAMES)
    found = np.stack([read(row["report_text"]) for row in rows])
    truth = np.array([[int(row[name]) for name in LABEL_NAMES] for row in rows])
    figures = np.array(
        [
            [
                *precision_recall_fscore_support(true, said, average="binary")[:3],
                cohen_kappa_score(true, said),
            ]
            for true, said in zip(truth.T, found.T, strict=True)
        ]
    )
    for name, count, row in zip(LABEL_NAMES, truth.sum(axis=0), figures, strict=True):
        sys.stdout.write(f"| {name} | {count} | {' | '.join(f'{x:.2f}' for x in row)} |\n")
    sys.stdout.write(f"| mean | | {' | '.join(f'{x:.3f}' for x in figures.mean(axis=0))} |\n")
    assert figures[:, 2].mean() > 0.95 and figures[:, 2].min() > 0.85
