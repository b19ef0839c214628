"""Reports of a chest twin split by organ, in the two files that fVLM's repository reads."""

from collections.abc import Mapping
from pathlib import Path

from medvlp.phantom.finding import LABELS
from medvlp.phantom.reports import Report
from medvlp.phantom.tables import write_json

_ORGANS = {
    "Medical material": "chest wall",
    "Arterial wall calcification": "aorta",
    "Cardiomegaly": "heart",
    "Pericardial effusion": "heart",
    "Coronary artery wall calcification": "heart",
    "Hiatal hernia": "esophagus",
    "Lymphadenopathy": "mediastinum",
}
ORGAN_OF: dict[str, str] = {label: _ORGANS.get(label, "lung") for label in LABELS}
"""In which organ fVLM looks for a finding; the pleura counts as lung."""


def write_organ_texts(folder: Path, reports: Mapping[str, Report]) -> None:
    """Write `desc_info.json` and `conc_info.json`: study -> organ -> text.

    The first has all that Findings say of an organ. The second has what Impression says is there,
    so that an organ without any finding is not in it, as fVLM's captions want it.

    Args:
        folder: Where to.
        reports: By study.
    """
    descriptions = {study: _by_organ(report.sentences) for study, report in reports.items()}
    conclusions = {study: _by_organ(report.conclusions) for study, report in reports.items()}
    write_json(folder / "desc_info.json", descriptions)
    write_json(folder / "conc_info.json", conclusions)


def _by_organ(texts: Mapping[str, str]) -> dict[str, str]:
    """Join the texts about findings of the same organ, in their order.

    >>> _by_organ({"Emphysema": "Emphysema.", "Consolidation": "Not consolidation."})
    {'lung': 'Emphysema. Not consolidation.'}
    """
    joined: dict[str, list[str]] = {}
    for label, text in texts.items():
        joined.setdefault(ORGAN_OF[label], []).append(text)
    return {organ: " ".join(parts) for organ, parts in joined.items()}
