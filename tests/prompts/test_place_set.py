"""The shipped places of the body, and how a set of one's own is refused."""

import re

import pytest
from pydicom.sr.codedict import codes

from medvlp.prompts.place_set import PlaceSet


@pytest.fixture(scope="module")
def places() -> PlaceSet:
    return PlaceSet.load()


def _tree(**facts):
    return {
        "Head": {"Brain": {"text": "in the brain", "parts": {"Pons": {"text": "in it"}}}}
    } | facts


def test_the_shipped_set_covers_the_body(places):
    regions = {entry.region for entry in places.entries}
    coarse = {entry.coarse for entry in places.entries}
    assert len(regions) >= 8 and len(coarse) >= 120 and len(places.entries) >= 380
    vertebrae = [f"Vertebra {v}" for v in ("C1", "C7", "T1", "T12", "L1", "L5")]
    ribs = [f"{side} rib {n}" for side in ("Left", "Right") for n in range(1, 13)]
    assert coarse.issuperset(vertebrae + ribs)
    fine = {entry.fine for entry in places.entries}
    assert fine.issuperset(f"Liver segment {n}" for n in ("I", "IVa", "VIII"))
    assert sum(entry.coarse == "Right lung" for entry in places.entries) == 10


def test_every_left_place_has_its_right_twin(places):
    """But where the body has none: the segments of both lungs are others."""
    fine = {entry.fine for entry in places.entries if not entry.coarse.endswith(" lung")}
    swap = {"Left": "Right", "left": "right", "L": "R", "Right": "Left", "right": "left", "R": "L"}
    sided = {name for name in fine if re.search(r"\b(left|right)\b", name, re.I)}
    alone = {
        name
        for name in sided
        if re.sub(r"\b(Left|left|Right|right)\b", lambda m: swap[m.group()], name) not in fine
    }
    # ventricles and atria have twins; nodes that lie on one side of a vessel only do not
    assert alone == {"Left para-aortic lymph nodes", "Right paracaval lymph nodes"}


def test_texts_fit_the_text_tower_and_name_no_comma(places):
    names = [*places.texts, *places.synonyms]
    assert not [name for name in names if "," in name or name != name.strip()]
    assert max(len(text.split()) for text in places.texts.values()) < 40


def test_terms_are_concepts_that_dicom_lists(places):
    listed = {concept.value for concept in map(codes.SCT.__getattr__, codes.SCT.dir())}
    assert len(places.terms) > 100
    assert set(places.terms.values()) <= listed


def test_sexes_are_stated_for_all_parts(places):
    sex = {entry.fine: entry.sex for entry in places.entries}
    assert sex["Left prostate"] == "M" and sex["Left adnexa"] == "F" and not sex["Bladder dome"]


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        (_tree(Neck={"Brain": {"text": "x", "parts": {"A": {"text": "y"}}}}), "place 'Brain' more"),
        (_tree(Neck={"A": {"text": "in it", "parts": {"B": {"text": "y"}}}}), "text 'in it'"),
        (_tree(Neck={"A": {"text": "x", "parts": {}}}), "Neck > A has no parts"),
        (_tree(Neck={"A": {"text": "x", "parts": {"B": {}}}}), "B has no text"),
        (_tree(Neck={"A": {"text": "x", "parts": {"B": {"text": "y", "s": 1}}}}), r"B has \['s'\]"),
        (
            _tree(Neck={"A": {"text": "x", "synonyms": ["Pons"], "parts": {"B": {"text": "y"}}}}),
            "'Pons' is a place and a synonym",
        ),
    ],
)
def test_a_faulty_set_is_refused(tree, message):
    with pytest.raises(ValueError, match=message):
        PlaceSet.from_regions("mine", tree)


def test_an_unknown_set_is_told(tmp_path):
    with pytest.raises(FileNotFoundError, match="whole_body"):
        PlaceSet.load(str(tmp_path))
