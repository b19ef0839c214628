"""From labels and a table of sentences to annotation files that can be prepared."""

from pathlib import Path

import pytest

from medvlp.data.caption_table import annotate, captions_of, labels_of, main, read_caption_table
from medvlp.data.unimed_label_sources import LabelCaptions, MIMICCaptions, RetinaCaptions
from medvlp.data.unimed_sources import OpenICaptions

TABLE = {"Edema": ["Edema.", "Wet lungs"], "Effusion": ["Fluid.", "An effusion."]}


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def labels(tmp_path: Path) -> str:
    rows = "a/1.png,Edema|Effusion,R1\na/2.png,Edema,R2\n"
    return str(write(tmp_path / "labels.csv", f"image,finding,note\n{rows}"))


@pytest.fixture
def table(tmp_path: Path) -> str:
    lines = "Edema: [Edema., Wet lungs]\nEffusion: [Fluid., An effusion.]\n"
    return str(write(tmp_path / "captions.yaml", lines))


def build(labels: str, table: str, out: Path, *options: str) -> str:
    arguments = ("--labels", "finding", "--number", "2", "--table", table, "--out", str(out))
    main(["build", labels, *arguments, *options])
    return str(out)


def texts(source: LabelCaptions | RetinaCaptions | OpenICaptions) -> list[tuple[str, str]]:
    return [(row.image, row.text) for row in source.rows()]


def test_a_label_set_takes_its_own_entry_or_joins_those_of_its_labels() -> None:
    assert captions_of(["Effusion", "Edema"], TABLE, number=2) == [
        "Fluid. Edema.",
        "An effusion. Wet lungs.",
    ]
    both = {**TABLE, "Edema | Effusion": ["Both.", "The two."]}
    assert captions_of(["Effusion", "Edema"], both, number=2) == ["Both.", "The two."]
    assert captions_of(["Edema"], TABLE, number=1) == ["Edema."]


def test_all_labels_without_captions_are_told_before_anything_is_written() -> None:
    rows = [("1", ["Edma"], ""), ("2", ["Edma"], ""), ("3", ["Edema"], ""), ("4", ["Cyst"], "")]
    message = (
        r"the label 'Edma' has no captions; did you mean 'Edema'\? \(2 images\); "
        r"the label 'Edema' has 2 captions, 10 are wanted; .*the label 'Cyst' has no captions"
    )
    with pytest.raises(ValueError, match=message):
        annotate(rows, TABLE)


@pytest.mark.parametrize("cell", ["1", "1.0", "true"])
def test_one_hot_columns_say_which_labels_there_are(cell: str) -> None:
    assert labels_of({"A": cell, "B": "0", "C": ""}, None, ["A", "B", "C"]) == ["A"]


def test_the_layouts_are_those_that_prepare_reads(labels: str, table: str, tmp_path: Path) -> None:
    pair, one = "Edema. Fluid._m_Wet lungs. An effusion._m_", "Edema._m_Wet lungs._m_"
    file = build(labels, table, tmp_path / "l.csv")
    assert texts(LabelCaptions(file, "", marker="_m_")) == [("a/1.png", pair), ("a/2.png", one)]
    file = build(labels, table, tmp_path / "m.csv", "--layout", "mimic", "--text", "note")
    assert texts(MIMICCaptions(file, "", marker="_m_"))[1] == ("a/2.png", f"{one}_m_R2")
    folder = tmp_path / "retina"
    build(labels, table, folder / "own.csv", "--layout", "retina", "--text", "note")
    marker = "_all_retina_merged_"
    expected = f"{one.replace('_m_', marker)}R2.{marker}"
    assert texts(RetinaCaptions(str(folder), ""))[1] == ("a/2.png", expected)
    rewrites = tmp_path / "r.json"
    options = ("--layout", "openi", "--text", "note", "--rewrites", str(rewrites))
    file = build(labels, table, tmp_path / "o.json", *options)
    source = OpenICaptions(file, "", refined=str(rewrites))
    assert texts(source)[1] == ("a/2.png", "R2._openi_Edema._openi_Wet lungs._openi_")


def test_building_twice_gives_the_same_bytes(labels: str, table: str, tmp_path: Path) -> None:
    first = Path(build(labels, table, tmp_path / "1.csv")).read_bytes()
    assert Path(build(labels, table, tmp_path / "2.csv")).read_bytes() == first


def test_a_start_lists_the_labels_for_sentences_to_be_written(labels: str, tmp_path: Path) -> None:
    out = tmp_path / "start.yaml"
    main(["start", labels, "--labels", "finding", "--modality", "X-ray", "--out", str(out)])
    assert "differently worded captions, one sentence" in out.read_text()
    assert read_caption_table(out) == {"Edema|Effusion": [], "Edema": []}


def test_tables_are_yaml_or_csv(tmp_path: Path) -> None:
    table = write(tmp_path / "t.csv", 'label,caption\nA,"one, two"\nB,b\nA, three \n')
    assert read_caption_table(table) == {"A": ["one, two", "three"], "B": ["b"]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("no: [a]", "label False is not a text; put it in quotes"),
        ("A: text", "label 'A' has no list of texts"),
        ("A: [1]", "label 'A' has no list of texts"),
        ("A: [a]\nA: [b]", "the label 'A' stands twice"),
        ("[a]", "expected {label"),
        ("A: [", "not readable YAML"),
    ],
)
def test_a_broken_table_says_what_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=rf"t\.yaml.*{message}"):
        read_caption_table(write(tmp_path / "t.yaml", text))


def test_the_command_ends_with_one_line(
    labels: str, table: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="has 2 captions, 10 are wanted"):
        main(["build", labels, "--labels", "finding", "--table", table, "--out", "x.csv"])
    empty = str(write(tmp_path / "empty.csv", "image,finding\n1.png,\n"))
    with pytest.raises(SystemExit, match=r"row 2 has no label; name one .*--otherwise"):
        build(empty, table, tmp_path / "x.csv")
    with pytest.raises(SystemExit, match=r"either --labels COLUMN or --one-hot"):
        main(["start", labels, "--out", str(tmp_path / "x.yaml")])
    assert not capsys.readouterr().out
