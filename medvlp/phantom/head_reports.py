"""What a radiologist would write of a phantom head."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from medvlp.phantom.head_lesion import PLACES, HeadLesion
from medvlp.phantom.head_study import MASS_EFFECT_MM, MIDLINE_SHIFT_MM, HeadStudy

NORMAL = "No significant abnormalities"
"""As HLIP's prompt for a normal study has it."""

TERMS = {
    "stroke": "Acute stroke",
    "glioma": "Glioma",
    "meningioma": "Meningioma",
    "metastasis": "Metastasis",
    "cyst": "Arachnoid cyst",
    "intraparenchymal": "Intraparenchymal hemorrhage",
    "intraventricular": "Intraventricular hemorrhage",
    "subarachnoid": "Subarachnoid hemorrhage",
    "subdural": "Subdural hemorrhage",
    "epidural": "Extradural hemorrhage",
    "fracture": "Skull fracture",
    "ventriculomegaly": "Ventriculomegaly",
}
"""Names of the findings, as HLIP's prompts for Pub-Brain-5, RSNA and CQ500 have them."""

_PLACED = (
    "There is {term} in the {place}, measuring {size} mm.",
    "{Term} of {size} mm is seen in the {place}.",
    "The {place} shows {term} with an extent of {size} mm.",
)
_DESCRIBED = {
    "stroke": "The lesion restricts diffusion.",
    "glioma": "The mass is heterogeneous, enhances at its rim and is surrounded by edema.",
    "meningioma": "The mass lies outside the brain on the dura and enhances evenly.",
    "metastasis": "Several round enhancing lesions with edema are present.",
    "cyst": "It follows cerebrospinal fluid in all sequences.",
    "subdural": "The collection is crescent shaped.",
    "epidural": "The collection is lens shaped.",
}
_ABSENT = (
    "No {term} is seen.",
    "There is no {term}.",
    "No evidence of {term}.",
)
_VENTRICLES = {True: "The ventricles are enlarged.", False: "The ventricles are of normal size."}
_SHIFTED = "The midline is shifted to the {side} by {shift} mm."
_MASS_EFFECT = "There is mass effect without significant midline shift."
_STRAIGHT = "There is no midline shift."
_SHIFT_IMPRESSION = "Midline shift."


def all_wordings() -> tuple[str, ...]:
    """List all that a report is made of: names, places, and sentences with {fields} open."""
    return (
        NORMAL,
        *TERMS.values(),
        *PLACES,
        *_PLACED,
        *_DESCRIBED.values(),
        *_ABSENT,
        *_VENTRICLES.values(),
        _SHIFTED,
        _MASS_EFFECT,
        _STRAIGHT,
        _SHIFT_IMPRESSION,
    )


@dataclass(frozen=True)
class HeadReport:
    """The two sections that matter.

    Attributes:
        findings: Full sentences.
        impression: The findings by name.
    """

    findings: str
    impression: str


def write_head_report(
    study: HeadStudy, rng: np.random.Generator, *, terms: Mapping[str, str] = TERMS
) -> HeadReport:
    """Report a study: what is there with its place and size, something that is not, the midline.

    Args:
        study: As drawn.
        rng: Chooses wordings.
        terms: Kind to name, in the data set's own words; kinds it lacks are not looked for.
    """
    sentences: list[str] = []
    names: list[str] = []
    for lesion in study.lesions:
        term = terms.get(lesion.kind, TERMS[lesion.kind])
        names.append(term)
        sentences.append(_placed(lesion, term, rng))
        if lesion.kind in _DESCRIBED:
            sentences.append(_DESCRIBED[lesion.kind])
    if study.large_ventricles:
        names.append(terms.get("ventriculomegaly", TERMS["ventriculomegaly"]))
    sentences.append(_VENTRICLES[study.large_ventricles])
    absent = [kind for kind in terms if kind not in study.kinds and kind != "ventriculomegaly"]
    for number in rng.permutation(len(absent))[:2]:
        wording = _ABSENT[int(rng.integers(len(_ABSENT)))]
        sentences.append(wording.format(term=_lowered(terms[absent[int(number)]])))
    sentences.append(_midline(study))
    impression = ". ".join(names or [NORMAL]) + "."
    if abs(study.head.shift_mm) >= MIDLINE_SHIFT_MM:
        impression += f" {_SHIFT_IMPRESSION}"
    return HeadReport(" ".join(sentences), impression)


def _placed(lesion: HeadLesion, term: str, rng: np.random.Generator) -> str:
    wording = _PLACED[int(rng.integers(len(_PLACED)))]
    place = lesion.place.removeprefix("the ")
    text = wording.format(
        term=_lowered(term), Term=term, place=place, size=max(1, round(lesion.size_mm))
    )
    return text.replace("the both ", "both ").replace("The both ", "Both ")


def _midline(study: HeadStudy) -> str:
    shift_mm = study.head.shift_mm
    side = "left" if shift_mm > 0 else "right"
    if abs(shift_mm) >= MIDLINE_SHIFT_MM:
        return _SHIFTED.format(side=side, shift=f"{abs(shift_mm):.0f}")
    if abs(shift_mm) >= MASS_EFFECT_MM:
        return _MASS_EFFECT
    return _STRAIGHT


def _lowered(term: str) -> str:
    return term[:1].lower() + term[1:]
