"""What BIMCV-R's table says of a phantom: its findings by name, and a report in Spanish."""

from medvlp.phantom.finding import LABELS, Finding
from medvlp.phantom.study import PhantomStudy

# CT-RATE's label: BIMCV-R's names for it, what is seen, and how its absence is put
_WORDS: dict[str, tuple[tuple[str, ...], str, str]] = {
    "Medical material": (("suture material",), "material quirurgico", ""),
    "Arterial wall calcification": (("calcified densities",), "ateromatosis aortica", ""),
    "Cardiomegaly": (("cardiomegaly",), "cardiomegalia", "silueta cardiaca de tamano normal"),
    "Pericardial effusion": (
        ("pericardial effusion",),
        "derrame pericardico",
        "no se observa derrame pericardico",
    ),
    "Coronary artery wall calcification": (
        ("calcified densities",),
        "calcificaciones coronarias",
        "",
    ),
    "Hiatal hernia": (("hiatal hernia",), "hernia de hiato", ""),
    "Lymphadenopathy": (
        ("adenopathy",),
        "adenopatias mediastinicas",
        "no se observan adenopatias mediastinicas",
    ),
    "Emphysema": (("emphysema",), "enfisema", ""),
    "Atelectasis": (("laminar atelectasis",), "atelectasia laminar", ""),
    "Lung nodule": (("nodule",), "nodulo pulmonar", "no se observan nodulos pulmonares"),
    "Lung opacity": (("ground glass pattern", " pneumonia"), "patron en vidrio deslustrado", ""),
    "Pulmonary fibrotic sequela": (("fibrotic band",), "tractos fibrosos residuales", ""),
    "Pleural effusion": (("pleural effusion",), "derrame pleural", "no hay derrame pleural"),
    "Mosaic attenuation pattern": (("air trapping",), "patron en mosaico", ""),
    "Peribronchial thickening": (
        ("bronchovascular markings",),
        "engrosamiento peribronquial",
        "",
    ),
    "Consolidation": (
        ("consolidation",),
        "consolidacion",
        "no se observan consolidaciones parenquimatosas",
    ),
    "Bronchiectasis": (("bronchiectasis",), "bronquiectasias", ""),
    "Interlobular septal thickening": (
        ("interstitial pattern",),
        "engrosamiento septal interlobulillar",
        "",
    ),
}
_LOBES = {
    "right upper lobe": "en el lobulo superior derecho",
    "right middle lobe": "en el lobulo medio",
    "right lower lobe": "en el lobulo inferior derecho",
    "left upper lobe": "en el lobulo superior izquierdo",
    "left lower lobe": "en el lobulo inferior izquierdo",
}
_SIDES = {"left": "izquierdo", "right": "derecho", "bilateral": "bilateral"}


def label_names(study: PhantomStudy) -> list[str]:
    """List the findings as the column Labels does; ["normal"] if there are none."""
    names = [name for label in LABELS if label in study.names for name in _WORDS[label][0]]
    return ["", *dict.fromkeys(names)] if names else ["normal"]


def findings_es(study: PhantomStudy) -> str:
    """Describe a study in the Spanish of the reports: lower case, no accents, " . " between."""
    by_name = {finding.name: finding for finding in study.findings}
    sentences = ["se realiza tc toracico sin contraste"]
    for label in LABELS:
        _, seen, absent = _WORDS[label]
        if label in by_name:
            sentences.append(f"{seen} {_place(by_name[label])}".strip())
        elif absent:
            sentences.append(absent)
    return " .  ".join(sentences) + " ."


def _place(finding: Finding) -> str:
    return _LOBES.get(finding.place, _SIDES.get(finding.side, ""))
