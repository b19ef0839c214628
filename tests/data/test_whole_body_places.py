"""The shipped vocabulary of places of the whole body."""

import re

import pytest
from pydicom.sr.codedict import codes

from medvlp.data.lesion_places import PlaceVocabulary

SWAP = {"Left": "Right", "left": "right", "Right": "Left", "right": "left"}


@pytest.fixture(scope="module")
def places() -> PlaceVocabulary:
    return PlaceVocabulary.load("whole_body")


def test_it_covers_the_body(places: PlaceVocabulary) -> None:
    regions = {place.body for place in places.places}
    assert len(regions) >= 8 and len(places.coarse_words) >= 120 and len(places.places) >= 380
    vertebrae = [f"Vertebra {name}" for name in ("C1", "C7", "T1", "T12", "L1", "L5")]
    ribs = [f"{side} rib {number}" for side in ("Left", "Right") for number in range(1, 13)]
    assert set(places.coarse_words).issuperset(vertebrae + ribs)
    assert len(places.within("Right lung")) == 10
    for segment in ("I", "IVa", "VIII"):
        assert places.locate(f"Couinaud segment {segment}").coarse == "Liver"


def test_every_left_place_has_its_right_twin(places: PlaceVocabulary) -> None:
    """But where the body has none: the segments of the lungs differ."""
    fine = {place.fine for place in places.places if not place.coarse.endswith(" lung")}
    sided = re.compile(r"\b(Left|left|Right|right)\b")
    alone = {
        name
        for name in fine
        if sided.search(name) and sided.sub(lambda side: SWAP[side.group()], name) not in fine
    }
    assert alone == {"Left para-aortic lymph nodes", "Right paracaval lymph nodes"}


def test_texts_are_short(places: PlaceVocabulary) -> None:
    assert max(len(text.split()) for text in places.descriptions.values()) < 40
    words = {*places.coarse_words, *places.all_fine_words}
    assert set(places.descriptions) == words


def test_terms_are_concepts_that_dicom_lists(places: PlaceVocabulary) -> None:
    listed = {concept.value for concept in map(codes.SCT.__getattr__, codes.SCT.dir())}
    stated = [place.ids for place in places.places]
    stated += [others.ids for others in places.coarse_names.values()]
    terms = [dict(ids)["SCT"] for ids in stated if ids]
    assert len(terms) > 150 and set(terms) <= listed


def test_sexes_and_synonyms_are_stated(places: PlaceVocabulary) -> None:
    assert places.locate("Left prostate").gender == "M"
    assert places.locate("left ovary").gender == "F"
    assert not places.locate("Bladder dome").gender
    assert places.within("Atlas") == places.within("Vertebra C1")


def test_an_unknown_vocabulary_is_told() -> None:
    with pytest.raises(FileNotFoundError, match=r"these are phantom, .*whole_body"):
        PlaceVocabulary.load("hole_body")
