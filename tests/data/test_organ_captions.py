import json

import pytest

from medvlp.data.organ_captions import OrganCaptions, organ_caption, read_organ_texts

NORMAL = "lung shows no significant abnormalities."


@pytest.mark.parametrize(
    ("description", "conclusion", "text", "abnormal", "encoder_text"),
    [
        (None, None, NORMAL, False, NORMAL),
        ("", " ", NORMAL, False, NORMAL),
        (".", None, NORMAL, False, NORMAL),
        ("Clear", None, f"{NORMAL} Clear.", False, "Clear."),
        (NORMAL, None, f"{NORMAL} {NORMAL}", False, NORMAL),
        ("Clear", "", f"{NORMAL} Clear.", False, "Clear."),
        ('A "nodule" (5 mm)', "Nodule.", "Nodule. A nodule 5 mm.", True, "Nodule. A nodule 5 mm."),
    ],
)
def test_a_caption_by_hand(description, conclusion, text, abnormal, encoder_text):
    caption = organ_caption("lung", description, conclusion)
    assert (caption.text, caption.abnormal, caption.encoder_text) == (text, abnormal, encoder_text)


def test_published_empty_texts_are_full_stops():
    caption = organ_caption("lung", "Clear", "", compat="published")
    assert (caption.text, caption.abnormal) == (".Clear.", True)
    caption = organ_caption("lung", "", None, compat="published")
    assert (caption.text, caption.encoder_text) == (f"{NORMAL}.", ".")


def captions(tmp_path, desc, conc, **changes):
    paths = [tmp_path / "desc_info.json", tmp_path / "conc_info.json"]
    for path, tree in zip(paths, (desc, conc), strict=True):
        path.write_text(json.dumps(tree))
    return OrganCaptions(*paths, **({"organs": ["lung", "heart"]} | changes))


def test_organs_come_in_order_and_others_are_left_out(tmp_path):
    read = captions(tmp_path, {"a": {"liver": "Cyst", "heart": "Large"}}, {"b": {"lung": "Mass"}})
    assert read.studies == ["a", "b"]
    assert [caption.text for caption in read.of("a").values()] == [
        NORMAL,
        "heart shows no significant abnormalities. Large.",
    ]
    assert list(read.of("b")) == ["lung", "heart"]
    assert read.of("b")["lung"].abnormal


def test_an_unknown_study_is_refused_unless_published(tmp_path):
    trees = ({"a": {"lung": "Clear"}}, {})
    with pytest.raises(ValueError, match=r"study c is in neither .*desc_info\.json"):
        captions(tmp_path, *trees).of("c")
    assert not captions(tmp_path, *trees, compat="published").of("c")["lung"].abnormal


def test_organs_of_another_spelling_are_refused(tmp_path):
    with pytest.raises(ValueError, match="they have Lung"):
        captions(tmp_path, {"a": {"Lung": "Clear"}}, {})


def test_entries_that_are_no_text_are_left_out_with_a_count(tmp_path):
    path = tmp_path / "desc.json"
    path.write_text('{"a": {"lung": null, "heart": "Large"}, "b": "Clear"}')
    with pytest.warns(UserWarning, match=r"desc\.json: 2 entries .* first a: lung"):
        assert read_organ_texts(path) == {"a": {"heart": "Large"}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "is no JSON file"),
        (b"\xff", "is no JSON file"),
        (b"[]", "holds a list"),
        (b'{"a": 1}', "no study has organs"),
    ],
)
def test_other_files_are_refused_by_name(tmp_path, content, message):
    path = tmp_path / "conc.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        read_organ_texts(path)
    assert str(path) in str(error.value)
    with pytest.raises(FileNotFoundError, match=r"other\.json"):
        read_organ_texts(tmp_path / "other.json")
