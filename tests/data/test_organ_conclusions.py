import numpy as np

from medvlp.data.organ_conclusions import JoinedTexts, OrganConclusionSampler
from medvlp.types import TextKind

ORGANS = ["lung", "heart"]
SECTIONS = {
    "findings/lung": "A nodule of 9 mm is seen.",
    "findings/heart": "The heart is not enlarged.",
    "impression/lung": "Lung nodule.",
}


def test_descriptions_are_left_out_and_silence_is_normal() -> None:
    lung, heart = OrganConclusionSampler(ORGANS)(SECTIONS, np.random.default_rng(0))
    assert (lung.text, lung.organ, lung.normal) == ("Lung nodule.", 0, False)
    assert (heart.text, heart.normal) == ("heart shows no significant abnormalities.", True)


def test_joined_texts_say_the_same_as_one() -> None:
    sampler = OrganConclusionSampler(ORGANS)
    apart = sampler(SECTIONS, np.random.default_rng(0))
    (unit,) = JoinedTexts(sampler)(SECTIONS, np.random.default_rng(0))
    assert unit.text == "Lung nodule. heart shows no significant abnormalities."
    assert (unit.kind, unit.organ) == (TextKind.REPORT, -1)
    assert JoinedTexts(sampler).remarks({"findings/lung": "Clear."}) == (
        "say nothing of any of the organs lung, heart: all are normal",
    )
    assert unit.statements == tuple(sorted(number for one in apart for number in one.statements))
