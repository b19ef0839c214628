import json
from pathlib import Path
from typing import Any

import pytest

from medvlp.data.lesion_places import PlaceVocabulary

TREE: dict[str, Any] = {
    "Chest": {
        "Left lung": {"Apex": "Left apex", "Base": "Left base"},
        "Right lung": {"Apex": "Right apex", "Base": "Right base"},
        "Heart": {"Heart": "Heart"},
    },
    "Pelvis": {"Bladder": {"Dome": {"name": "Dome", "gender": "F", "max_size": 80}}},
}
WORDS = ("Left lung", "Right lung", "Apex", "Base", "Heart", "Bladder", "Dome")
TEXTS = {word: f"in the {word.lower()}" for word in WORDS}


def read(tmp_path: Path, tree: object = TREE, texts: object = TEXTS) -> PlaceVocabulary:
    (tmp_path / "places.json").write_text(json.dumps(tree), encoding="utf-8-sig")
    (tmp_path / "texts.json").write_text(json.dumps(texts))
    return PlaceVocabulary.read(tmp_path / "places.json", tmp_path / "texts.json")


def test_final_names_are_found_in_the_tree(tmp_path: Path) -> None:
    places = read(tmp_path)
    assert places.locate("Right apex")[:4] == ("Chest", "Right lung", "Apex", "Right apex")
    assert places.locate("Dome")[4:6] == ("F", 80.0)
    assert places.coarse_words == ("Left lung", "Right lung", "Heart", "Bladder")
    assert places.fine_words("Left lung") == ("Apex", "Base")
    assert places.descriptions["Apex"] == "in the apex"
    for place in places.places:  # one to one
        assert places.locate(place.name) == place


def test_an_unknown_name_comes_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'Rigth apex' is not a place.*mean 'Right apex'"):
        read(tmp_path).locate("Rigth apex")


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"A": {"B": {"c": "n", "d": "n"}}}, "final name 'n' more than once"),
        ({"A": {"B": {"c": "left, n"}}}, "has a comma"),
        ({"A": {"B": {"c": " n"}}}, "blanks around it"),
        ({"A": {"B": {"c": ""}}}, "is empty"),
        ({"A": {"B": {"c": {"gender": "F"}}}}, "expected a name, or an object with 'name'"),
        ({"A": {"B": {"c": {"name": "n", "gender": "X"}}}}, "expected F or M"),
        ({"A": {"B": "c"}}, "'B' holds 'c'"),
        ({"A": {}}, "'A' holds {}"),
        ({}, "no JSON object"),
        ({"A": {"B": {"C": "n"}, "C": {"B": "m"}}}, "'B' is part of itself"),
        ({"A": {"B": {"c": "n"}}, "D": {"B": {"e": "m"}}}, "stands under both 'A' and 'D'"),
    ],
)
def test_trees_that_cannot_be_right(tmp_path: Path, tree: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read(tmp_path, tree)


def test_texts_that_cannot_be_right(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"lacks the description of 1 of 7 words: 'Apex'"):
        read(tmp_path, texts={word: text for word, text in TEXTS.items() if word != "Apex"})
    with pytest.raises(ValueError, match=r"'Apex' and 'Base' have the same description"):
        read(tmp_path, texts={**TEXTS, "Base": TEXTS["Apex"]})


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="HCL-AL's two files"):
        PlaceVocabulary.read(tmp_path / "absent.json")
    broken = tmp_path / "broken.json"
    broken.write_text("{")
    with pytest.raises(ValueError, match="not readable JSON"):
        PlaceVocabulary.read(broken)
    broken.write_text('{"A": {"B": {"c": "n"}, "B": {"d": "m"}}}')
    with pytest.raises(ValueError, match="key 'B' more than once"):
        PlaceVocabulary.read(broken)


ONE_FILE = """\
places:
  Abdomen:
    Liver:
      Segment 1: {name: Liver S1, synonyms: [Caudate lobe], ids: {FMA: 14509}}
    Pelvis:
      Uterus: {name: Uterus, sex: F, max_size: 90}
coarse:
  Liver: {synonyms: [Hepar], ids: {FMA: 7197}}
descriptions:
  Liver: in the liver
  Segment 1: in the caudate lobe
  Pelvis: in the pelvis
  Uterus: in the uterus
"""


def one_file(tmp_path: Path, text: str = ONE_FILE) -> PlaceVocabulary:
    (tmp_path / "places.yaml").write_text(text)
    return PlaceVocabulary.load(str(tmp_path / "places.yaml"))


def test_one_file_holds_tree_and_texts(tmp_path: Path) -> None:
    places = one_file(tmp_path)
    assert places.locate("caudate LOBE").name == "Liver S1"
    assert places.locate("Liver S1").ids == (("FMA", "14509"),)
    assert places.text_of("Segment 1") == "in the caudate lobe"
    assert places.all_fine_words == ("Segment 1", "Uterus")
    assert places.within("hepar") == places.within("Liver")
    assert places.coarse_names["Liver"].ids == (("FMA", "7197"),)
    assert places.locate("Uterus").gender == "F"
    assert places.digest != one_file(tmp_path, ONE_FILE.replace("in the pelvis", "below")).digest
    with pytest.raises(ValueError, match=r"'Lever' is not a coarse place.*mean 'Liver'"):
        places.within("Lever")
    with pytest.raises(ValueError, match="without a description of 'Spleen'"):
        places.text_of("Spleen")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("synonyms: [Caudate lobe]", "synonyms: [Uterus]", "means 'Uterus' too"),
        ("synonyms: [Caudate lobe]", "synonym: [Caudate lobe]", "mean 'synonyms'"),
        ("synonyms: [Caudate lobe]", "synonyms: Caudate lobe", "expected a list of names"),
        ("      Uterus:", "      2:", "2 is no text"),
        ("    Pelvis:", "    Liver:", "key 'Liver' more than once"),
        ("places:", "tree: 1\nplaces:", "expected 'places', a tree"),
        ("descriptions:", "descriptions: {", "not readable YAML"),
        ("synonyms: [Hepar]", "synonyms: [Pelvis]", "means 'Pelvis' too"),
        ("synonyms: [Hepar]", "sex: F", "expected synonyms and ids"),
        ("  Liver: {syn", "  Lever: {syn", "'Lever' is no coarse place.*mean 'Liver'"),
        ("  Uterus: in the uterus", "", "lacks the description of 1 of 4"),
    ],
)
def test_one_file_that_cannot_be_right(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        one_file(tmp_path, ONE_FILE.replace(old, new, 1))


def test_a_folder_counts_as_one_file(tmp_path: Path) -> None:
    whole = one_file(tmp_path)
    (tmp_path / "places.yaml").unlink()
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "1.yaml").write_text(ONE_FILE)
    with pytest.raises(FileNotFoundError, match=r"holds no \.yaml file"):
        PlaceVocabulary.load(str(tmp_path))
    head = (
        "places: {Head: {Brain: {Pons: Pons}}}\ndescriptions: {Brain: in it, Pons: in the pons}\n"
    )
    (folder / "2.yaml").write_text(head)
    both = PlaceVocabulary.load(str(folder))
    assert both.places[:-1] == whole.places and both.locate("Pons").body == "Head"
    (folder / "3.yaml").write_text(head)
    with pytest.raises(ValueError, match=r"3\.yaml has the key 'Head' more than once"):
        PlaceVocabulary.load(str(folder))
