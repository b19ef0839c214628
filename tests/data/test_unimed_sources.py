"""What each annotation layout gives, and what it refuses: texts worked out by hand."""

import json
from pathlib import Path
from typing import Any

import pytest

from medvlp.data.annotation_rows import csv_records, read_list
from medvlp.data.captioned_images import CaptionedImages, RowError, below
from medvlp.data.unimed_label_sources import (
    LabelCaptions,
    MIMICCaptions,
    RetinaCaptions,
    RetinaKeywords,
)
from medvlp.data.unimed_sources import (
    LLaVAMedAlignmentCaptions,
    LLaVAMedInstructCaptions,
    OpenICaptions,
    PMCOACaptions,
    ROCOv2Captions,
)


def samples(source: CaptionedImages) -> list[tuple[str, str] | str]:
    """List image and text of every row, or why it is refused."""
    return [str(row.refusal or "") or (row.image, row.text) for row in source.rows()]


def written(path: Path, content: Any) -> str:
    text = content if isinstance(content, str) else json.dumps(content)
    path.write_text(text, encoding="utf-8")
    return str(path)


LABELS = """image,label,captions
['a/1.jpg'],['Edema'],"['Edema.', ' two ', 'it''s wet..']"
['a/2.jpg'],['Edema'],"['one', ''"
['a/3.jpg'],['Edema'],[]
a/4.jpg,['Edema'],['alone']
['a/5.jpg'],['Edema'],"[1, 2]"
['a/6.jpg'],['Edema'],
"""


def test_label_captions_are_sentences_with_one_full_stop_each(tmp_path: Path) -> None:
    file = written(tmp_path / "l.csv", LABELS.replace("''s", "s"))
    broken = "the captions are not the text of a list of texts, such as ['one', 'two']"
    assert samples(LabelCaptions(file, "", marker="_m_", published_dots=True)) == [
        ("a/1.jpg", "Edema._m_two._m_its wet._m_"),
        f"{broken}: \"['one', ''\"",
        "no caption",
        ("a/4.jpg", "alone._m_"),
        f"{broken}: '[1, 2]'",
        "no caption",
    ]


def test_published_label_captions_keep_blanks_and_radimagenets_dots(tmp_path: Path) -> None:
    file = written(tmp_path / "l.csv", LABELS.replace("''s", "s"))
    plain = LabelCaptions(file, "", marker="_m_", compat="published")
    dotted = LabelCaptions(file, "", marker="_m_", published_dots=True, compat="published")
    assert samples(plain)[0] == ("a/1.jpg", "Edema._m_ two ._m_its wet._m_")
    assert samples(dotted)[0] == ("a/1.jpg", "Edema.._m_ two ._m_its wet..._m_")


def test_rows_are_named_by_their_line_in_the_file(tmp_path: Path) -> None:
    file = written(tmp_path / "l.csv", "a,b,c\n\"['x\n.jpg']\",[],[]\n\n1,2,3\n")
    rows = list(LabelCaptions(file, "", marker="_m_").rows())
    assert [row.place for row in rows] == ["l.csv, line 3", "l.csv, line 5"]


def test_a_report_follows_the_captions_behind_two_markers(tmp_path: Path) -> None:
    rows = "['1.jpg'],[],['a'],Clear. \n['2.jpg'],[],['b'],\n['3.jpg'],[],,Wet\n['4.jpg'],[],,nan\n"
    file = written(tmp_path / "m.csv", f"i,l,c,r\n{rows}")
    assert samples(MIMICCaptions(file, "", marker="_m_")) == [
        ("1.jpg", "a._m__m_Clear. "),
        ("2.jpg", "b._m__m_noreportpresent"),
        ("3.jpg", "_m_Wet"),
        "neither captions nor a report",
    ]


def test_openi_pairs_captions_and_rewrites_by_position(tmp_path: Path) -> None:
    first = {"annotations": [{"image_id": "x1", "caption": "Old."}, {"image_id": 7}]}
    captions = written(tmp_path / "c.json", first)
    refined = written(tmp_path / "r.json", {"refined_captions": [["new", "n.."], []]})
    assert samples(OpenICaptions(captions, "", refined=refined)) == [
        ("x1.png", "Old._openi_new._openi_n._openi_"),
        "the image_id is not a text: 7",
    ]


def test_openi_files_of_different_length_are_not_paired(tmp_path: Path) -> None:
    captions = written(tmp_path / "c.json", {"annotations": [{"image_id": "a", "caption": "b"}]})
    refined = written(tmp_path / "r.json", {"refined_captions": [[], []]})
    with pytest.raises(ValueError, match=r"has 1 captions and .* rewrites of 2: they are paired"):
        samples(OpenICaptions(captions, "", refined=refined))
    published = OpenICaptions(captions, "", refined=refined, compat="published")
    assert samples(published) == [("a.png", "b._openi_")]


def test_broken_lines_of_pmc_oa_are_refused_one_by_one(tmp_path: Path) -> None:
    lines = [
        '\ufeff{"image": "1.jpg", "caption": "\\n one \\n"}',
        "",
        '{"image": "2.jpg", "cap',
        '{"image": "3.jpg", "caption": null}',
        '{"image": "4.jpg", "caption": "nul \\u0000"}',
        '{"image": "5.jpg", "caption": "half \\ud83d"}',
        '{"image": "6.jpg"}',
        '["7.jpg"]',
    ]
    found = samples(PMCOACaptions(written(tmp_path / "p.jsonl", "\n".join(lines)), ""))
    assert found[0] == ("1.jpg", "one")
    reasons = [str(text).split(":")[0] for text in found[1:]]
    assert reasons == [
        "the line is not readable JSON",
        "no caption",
        "the caption holds a NUL character",
        "the caption is not valid UTF-8",
        "a part of the record is not there",
        "a part of the record is not there",
    ]


def test_llava_takes_the_second_turn(tmp_path: Path) -> None:
    turns = [{"value": "q"}, {"value": " a\n"}]
    records = [{"image": "1.jpg", "conversations": turns}, {"image": "2.jpg", "conversations": []}]
    file = written(tmp_path / "a.json", records)
    assert samples(LLaVAMedAlignmentCaptions(file, "")) == [
        ("1.jpg", "a"),
        "a part of the record is not there: 1",
    ]


def test_llava_instruct_gives_all_captions_then_all_mentions(tmp_path: Path) -> None:
    def record(name: str, caption: Any, mention: Any) -> dict[str, Any]:
        return {"pair_id": name, "fig_caption": caption, "in_text_mention": mention}

    content = {
        "mri": [record("1", float("nan"), [{"tokens": " m1"}]), record("2", "c2 ", None)],
        "ct": [record("3", None, [])],
    }
    file = written(tmp_path / "i.json", content)
    assert samples(LLaVAMedInstructCaptions(file, "")) == [
        "no caption",
        ("2.jpg", "c2"),
        "no caption",
        ("1.jpg", "m1"),
        "no mention in the text",
        "no mention in the text",
    ]
    places = [row.place for row in LLaVAMedInstructCaptions(file, "").rows()]
    assert places[2] == "i.json, ct record 1, fig_caption"


def test_retina_tables_are_sorted_and_five_are_left_out(tmp_path: Path) -> None:
    header = "filename,captions,sentence_level_captions\n"
    for name, row in (
        ("11_STARE", "b.jpg,['two'],"),
        ("03_IDRID", "a.jpg,['one'],Whole."),
        ("06_DEN", ""),
        ("07_LAG_revised", "c.jpg,['three'],"),
    ):
        written(tmp_path / f"{name}.csv", f"{header}{row}\n")
    one, two = "one._all_retina_merged_Whole._all_retina_merged_", "two._all_retina_merged_"
    assert samples(RetinaCaptions(str(tmp_path), "")) == [("a.jpg", one), ("b.jpg", two)]
    chosen = RetinaCaptions(str(tmp_path), "", tables=["11_STARE.csv"])
    assert samples(chosen) == [("b.jpg", two)]


def test_published_retina_tables_come_as_the_file_system_lists_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.csv", "b.csv", "06_DEN.csv"):
        written(tmp_path / name, "filename,captions,sentence_level_captions\n")
    monkeypatch.setattr("os.listdir", lambda _: ["b.csv", "06_DEN.csv", "a.csv"])
    names = {
        compat: [path.name for path in RetinaCaptions(str(tmp_path), "", compat=compat).files()]
        for compat in ("published", None)
    }
    assert names == {"published": ["b.csv", "a.csv"], None: ["a.csv", "b.csv"]}


def test_the_last_clean_keyword_becomes_the_text(tmp_path: Path) -> None:
    rows = [
        "1.jpg,\"['drusen', '65 year old', 'amd/']\"",
        "2.jpg,\"['glaucoma', 'a//b']\"",
        "3.jpg,\"['65 year old']\"",
        "4.jpg,[]",
    ]
    file = written(tmp_path / "06_DEN.csv", "\n".join(["image,categories", *rows]))
    source = RetinaKeywords(file, "")
    expected: list[tuple[str, str] | str] = [
        ("1.jpg", "The fundus image of amd/"),
        ("2.jpg", "The fundus image of glaucoma"),
        ("3.jpg", "65 year old"),
        "no keyword",
    ]
    assert samples(source) == samples(source) == expected


def test_a_drawn_keyword_depends_on_the_seed_alone(tmp_path: Path) -> None:
    words = [f"{age} year old" for age in range(40)]
    file = written(tmp_path / "06_DEN.csv", f'image,categories\n1.jpg,"{words}"\n')
    drawn = {str(samples(RetinaKeywords(file, "", seed=seed))) for seed in range(5)}
    assert len(drawn) > 1
    assert samples(RetinaKeywords(file, "", seed=3)) == samples(RetinaKeywords(file, "", seed=3))


@pytest.mark.parametrize(
    "name", ["../a.jpg", "a/../../b.jpg", "/etc/passwd", "C:\\a.jpg", "..\\a.jpg", "a\0.jpg"]
)
def test_no_path_of_a_file_leaves_the_image_folder(name: str) -> None:
    with pytest.raises(RowError, match="leads out of the image folder"):
        below(Path("images"), name)


@pytest.mark.parametrize("name", ["", " ", "nan"])
def test_an_image_needs_a_name(name: str) -> None:
    with pytest.raises(RowError, match="no name of an image"):
        below(Path("images"), name)


@pytest.mark.parametrize(
    "cell", ["__import__('os').getcwd()", "['a', nan]", "('a',)", "{'a'}", "[['a']]", "[" * 5000]
)
def test_only_lists_of_texts_are_read_and_nothing_is_run(cell: str) -> None:
    with pytest.raises(RowError, match="not the text of a list of texts"):
        read_list(cell, "captions")


def test_a_list_of_a_million_characters_is_refused() -> None:
    with pytest.raises(RowError, match=r"too long to be a list: 1,000,004 characters"):
        read_list(f"['{'a' * 1_000_000}']", "captions")


def test_what_is_wrong_with_a_table_is_told_with_its_file(tmp_path: Path) -> None:
    empty = Path(written(tmp_path / "e.csv", ""))
    narrow = Path(written(tmp_path / "n.csv", "only\n1\n"))
    with pytest.raises(ValueError, match=r"e\.csv is empty"):
        list(csv_records(empty, (0,)))
    with pytest.raises(ValueError, match=r"n\.csv has 1 columns \(only\), expected at least 3"):
        list(csv_records(narrow, (0, 2)))
    with pytest.raises(ValueError, match=r"no column 'onyl'; did you mean 'only'"):
        list(csv_records(narrow, ("onyl",)))
    with pytest.raises(FileNotFoundError, match=r"x\.csv is not there; set paths\.raw"):
        list(csv_records(tmp_path / "x.csv", (0,)))
    wide = tmp_path / "w.csv"
    wide.write_bytes("a,b\n1,2\n".encode("utf-16"))
    with pytest.raises(ValueError, match="is UTF-16; save it as UTF-8"):
        list(csv_records(wide, (0,)))


def test_odd_rows_of_a_table_are_refused_alone(tmp_path: Path) -> None:
    file = tmp_path / "r.csv"
    rows = [
        b"ID,Caption",
        b"1,one, more",
        b"2,caf\xe9",
        b"3",
        b'4,"a ""b"" \nc"',
        b'5,"never closed',
    ]
    file.write_bytes(b"\xef\xbb\xbf" + b"\r\n".join([*rows, b"6,lost", b"7,lost", b""]))
    found = samples(ROCOv2Captions(str(file), ""))
    assert found[0] == (
        "more cells than the header: 3 for 2; a text with a comma must stand in double quotes"
    )
    assert found[1] == "the caption is not valid UTF-8: 'caf\\udce9'"
    assert found[2] == "no caption"
    assert found[3] == ("4.jpg", 'a "b" \nc')
    assert found[4:] == [
        "a double quote is never closed: it swallows 2 lines up to the end of the file"
    ]


def test_the_last_line_needs_no_end(tmp_path: Path) -> None:
    file = written(tmp_path / "r.csv", 'ID,Caption\n1,"a ""quoted"" word"')
    assert samples(ROCOv2Captions(file, "")) == [("1.jpg", 'a "quoted" word')]


@pytest.mark.parametrize("content", ["{", "[1, 2", "7", '{"a": 1}'])
def test_json_of_another_layout_names_its_file(tmp_path: Path, content: str) -> None:
    file = written(tmp_path / "a.json", content)
    with pytest.raises(ValueError, match=r"a\.json"):
        samples(LLaVAMedAlignmentCaptions(file, ""))
    with pytest.raises(ValueError, match=r"a\.json"):
        samples(LLaVAMedInstructCaptions(file, ""))
    with pytest.raises(ValueError, match=r"a\.json"):
        samples(OpenICaptions(file, "", refined=file))
