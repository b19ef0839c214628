"""What RadGenome-ChestCT's tables say of a phantom: places as paths, abnormalities as phrases."""

from collections.abc import Mapping

from medvlp.phantom.finding import LABELS, Finding
from medvlp.phantom.study import PhantomStudy

_PHRASES = {"Medical material": "medical material", "Lung nodule": "pulmonary nodule"}
_PLACES: dict[str, tuple[str, ...]] = {
    # of the findings that have no side
    "Medical material": ("others", "others/thoracic cavity"),
    "Arterial wall calcification": ("mediastinum", "mediastinum/aorta"),
    "Cardiomegaly": ("heart", "heart/heart", "heart/heart/heart tissue"),
    "Pericardial effusion": ("heart", "heart/heart"),
    "Coronary artery wall calcification": ("heart", "heart/heart", "heart/heart/heart tissue"),
    "Hiatal hernia": ("esophagus", "esophagus/esophagus"),
    "Lymphadenopathy": ("mediastinum", "mediastinum/mediastinal tissue"),
    "Peribronchial thickening": ("trachea and bronchie", "trachea and bronchie/bronchie"),
    "Pleural effusion": ("pleura", "pleura/pleura"),
}
_FLAT = ("others", "mediastinum", "trachea and bronchie")  # they do not hold one of their name
_SIZED = ("Lung nodule", "Consolidation", "Lung opacity", "Pleural effusion", "Lymphadenopathy")


def phrase(name: str) -> str:
    """Return the words for a finding, in lower case as the tables have them."""
    return _PHRASES.get(name, name.lower())


def places(finding: Finding) -> tuple[str, ...]:
    """List the places of a finding as the tables do: each with all the places that hold it.

    >>> places(Finding("Lung nodule", side="left", place="left upper lobe"))[2:4]
    ('lung/lung/left lung', 'lung/lung/lung upper lobe')
    """
    if finding.name in _PLACES:
        return _PLACES[finding.name]
    if finding.side == "bilateral":
        return ("lung", "lung/lung", "lung/lung/right lung", "lung/lung/left lung")
    side, part, _ = finding.place.split()
    lobe, lung = f"{side} lung {part} lobe", f"lung/lung/{side} lung"
    paths = ("lung", "lung/lung", lung)
    if part == "middle":
        return (*paths, f"{lung}/{lobe}")
    both = f"lung/lung/lung {part} lobe"
    return (*paths, both, f"{lung}/{lobe}", f"{both}/{lobe}")


def abnormalities(study: PhantomStudy) -> dict[str, list[str]]:
    """Return place to phrases, in the order of the labels."""
    found: dict[str, list[str]] = {}
    for finding in _in_order(study):
        for place in places(finding):
            found.setdefault(place, []).append(phrase(finding.name))
    return found


def absent(study: PhantomStudy) -> dict[str, list[str]]:
    """Return region to phrases of what is not there."""
    missing: dict[str, list[str]] = {}
    for name in LABELS:
        if name in study.kinds and name not in study.names:
            region = _PLACES.get(name, ("lung",))[0]
            for place in (region, f"{region}/{region}")[: 1 if region in _FLAT else 2]:
                missing.setdefault(place, []).append(phrase(name))
    return missing


def sizes(study: PhantomStudy) -> list[tuple[str, str, str]]:
    """List place, phrase and size in words of the findings that have one."""
    return [
        (place, phrase(finding.name), f"{max(1, round(study.size_mm(finding)))} mm")
        for finding in _in_order(study)
        if finding.name in _SIZED and finding.size_mm
        for place in places(finding)
    ]


def region_sentences(sentences: Mapping[str, str]) -> dict[str, str]:
    """Return region to its sentences, from the sentence of every label."""
    regions: dict[str, list[str]] = {}
    for name, sentence in sentences.items():
        regions.setdefault(_PLACES.get(name, ("lung",))[0], []).append(sentence)
    return {region: " ".join(own) for region, own in regions.items()}


def _in_order(study: PhantomStudy) -> list[Finding]:
    return sorted(study.findings, key=lambda finding: LABELS.index(finding.name))
