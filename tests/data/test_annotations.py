import json
from pathlib import Path

import pytest

from medvlp.data.annotation_file import AnnotationFile, read_annotations
from medvlp.data.annotations import main, organ_annotation, raw_annotation
from medvlp.data.ct_rate import CTRate
from medvlp.data.ct_recipe import CTRecipe
from medvlp.data.engine import LocalEngine
from medvlp.data.preparation import prepare_dataset
from medvlp.data.records import ScanRecord, Skip, StudyRecord

from .conftest import CTRateTree, write_table

ROWS = [
    {
        "VolumeName": "train_2_a_1.nii.gz",
        "Impressions_EN": "Nodule",
        "Findings_EN": "Small (5 mm).",
    },
    {"VolumeName": "train_2_a_2.nii.gz", "Impressions_EN": "Ignored", "Findings_EN": ""},
    {"VolumeName": "train_1_a_1.nii.gz", "Impressions_EN": None, "Findings_EN": "Clear."},
    {"VolumeName": "train_3_a_1.nii.gz", "Impressions_EN": "", "Findings_EN": "nan"},
]


def test_a_missing_section_is_left_out_or_published_as_nan() -> None:
    ours = raw_annotation(ROWS)
    assert list(ours) == ["train_2_a", "train_1_a", "train_3_a"]
    assert ours["train_2_a"] == {
        "recons": ["train_2_a_1.nii.gz", "train_2_a_2.nii.gz"],
        "report": ["The volume shows: Nodule. The volume looks like: Small 5 mm."],
    }
    assert ours["train_1_a"]["report"] == ["The volume looks like: Clear."]
    assert ours["train_3_a"]["report"] == []
    published = raw_annotation(ROWS, compat="published")
    assert published["train_3_a"]["report"] == [
        "The volume shows: nan. The volume looks like: nan."
    ]
    with pytest.raises(ValueError, match=r"'scan\.nii', expected a name of CT-RATE"):
        raw_annotation([ROWS[0] | {"VolumeName": "scan.nii"}])


def test_an_organ_of_which_nothing_is_said_has_no_abnormalities() -> None:
    names = ["train_10_a_1.nii.gz", "train_2_b_1.nii.gz", "train_1_a_1.nii.gz"]
    ours = organ_annotation({"train_2_b": {"lung": " "}}, {}, names, organs=("lung",))
    assert list(ours) == ["train_1_a", "train_10_a", "train_2_b"]
    nothing = "No significant abnormalities."
    texts = {text for entry in ours.values() for text in entry["report"]}
    assert texts == {f"The lung shows: {nothing} The lung looks like: {nothing}"}


def test_the_command_writes_files_that_can_be_trained_on(
    tree: CTRateTree, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree.write()
    reports = tree.dataset / "radiology_text_reports" / "train_reports.csv"
    main(["raw", f"--reports={reports}", f"--out={tmp_path / 'raw.json'}"])
    assert "6 sessions of 12 volumes, 0 without a report" in capsys.readouterr().out
    train = [s for s in CTRate(str(tree.root)).studies() if s.split == "train"]
    again = CTRate(str(tree.root), annotations=str(tmp_path / "raw.json"))
    ours = [study for study in again.studies() if study.split == "train"]
    assert [study.scans for study in ours] == [study.scans for study in train]
    assert dict(ours[0].texts) == {
        "text_00": "The volume shows: Nodule number 1. The volume looks like: The lungs are clear. "
        "A nodule of 1.5 mm."
    }
    assert again.describe()["annotations"].endswith("raw.json") and not again.skips
    said = tmp_path / "said.json"
    said.write_text(json.dumps({"train_1_a": {"lung": "Clear"}, "train_77_a": {}}))
    options = [f"--descriptions={said}", f"--conclusions={said}"]
    options += [f"--volumes={tree.dataset / 'train'}", f"--out={tmp_path / 'organ.json'}"]
    main(["organ", *options])
    assert "1 sessions of the JSON files have no volume, e.g. train_77_a" in capsys.readouterr().out
    strings = read_annotations(tmp_path / "organ.json")["train_1_a"].strings
    assert len(strings) == 4 and strings[0] == "The lung shows: Clear. The lung looks like: Clear."


def test_strings_keep_their_order_in_the_manifest(
    tree: CTRateTree, recipe: CTRecipe, tmp_path: Path
) -> None:
    tree.write()
    strings = [f"{number} seen." for number in (3, 1, 2)]
    file = tmp_path / "strings.json"
    file.write_text(json.dumps({"train_1_a": {"report": strings}}))
    source = CTRate(str(tree.root), splits=["train"], annotations=str(file))
    cache = tmp_path / "cache"
    manifest = prepare_dataset(source, recipe, cache_dir=cache, engine=LocalEngine(0))
    assert list(manifest[0]["texts"].values()) == strings
    assert manifest.counts["studies"] == 6
    assert not manifest[1]["texts"]


def test_a_broken_table_or_file_ends_with_one_line(tmp_path: Path) -> None:
    write_table(tmp_path / "t.csv", [{"VolumeName": "train_1_a_1.nii.gz", "Findings_EN": "x"}])
    with pytest.raises(SystemExit, match="no column 'Impressions_EN'"):
        main(["raw", f"--reports={tmp_path / 't.csv'}", f"--out={tmp_path / 'o.json'}"])
    (tmp_path / "d.json").write_text("[]")
    options = [f"--{name}={tmp_path / 'd.json'}" for name in ("descriptions", "conclusions")]
    with pytest.raises(SystemExit, match=r"d\.json: expected {session: {organ: text}}"):
        main(["organ", *options, f"--volumes={tmp_path}", f"--out={tmp_path / 'o.json'}"])


def study(study_id: str, split: str, *scans: str) -> StudyRecord:
    records = tuple(ScanRecord(f"{study_id}/{name}", Path(name)) for name in scans)
    return StudyRecord(study_id, study_id, split, records, {"findings": "Of the table."})


def test_an_annotation_file_chooses_texts_and_scans(tmp_path: Path) -> None:
    file = tmp_path / "brain.json"
    series = {"T1": {"num_slices": 20, "view": "axial"}, "lost": {}}
    entries = {
        "a": {"series": series, "report_length": 2, "report": ["Second.", "First."]},
        "b": {"report": [""]},
        "z": {"report": ["Nobody."]},
    }
    file.write_text(json.dumps(entries))
    studies = [study("a", "train", "T1/img.nii.gz", "T2/img.nii.gz"), study("b", "train", "x.nii")]
    studies += [study("c", "train", "x.nii"), study("d", "test", "x.nii")]
    skips: list[Skip] = []
    ours = list(AnnotationFile(str(file)).apply(studies, skips))
    assert [list(one.texts.values()) for one in ours] == [
        ["Second.", "First."],
        [],
        [],
        ["Of the table."],
    ]
    assert [scan.scan_id for scan in ours[0].scans] == ["a/T1/img.nii.gz"]
    assert {skip.id: skip.reason for skip in skips} == {
        "a": "1 of its annotated scans not there, such as lost",
        "b": "brain.json names it without a text: not for training, kept for evaluation",
        "c": "brain.json does not name it: not for training, kept for evaluation",
        "z": "brain.json names it, but the data set has no such study",
    }
    assert list(AnnotationFile().apply(studies, skips)) == studies
    assert AnnotationFile().describe() == {}


def test_a_study_whose_annotated_scans_are_all_missing_is_left_out(tmp_path: Path) -> None:
    file = tmp_path / "one.json"
    file.write_text(json.dumps({"a": {"recons": ["a_9.nii.gz"], "report": "One string."}}))
    skips: list[Skip] = []
    assert list(AnnotationFile(str(file)).apply([study("a", "train", "a_1.nii.gz")], skips)) == []
    assert skips[0].reason.endswith("such as a_9.nii.gz: left out")


@pytest.mark.parametrize(
    ("content", "advice"),
    [
        ("{", "is not readable JSON"),
        ("[]", 'expected {study: {"report"'),
        ('{"a": {"text": "x"}}', "study 'a': expected \"report\" with a list of texts"),
        ('{"a": {"report": ["x"], "recons": 3}}', "study 'a': expected names of scans, got 3"),
    ],
)
def test_other_layouts_are_refused(content: str, advice: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(ValueError, match=advice):
        read_annotations(tmp_path / "a.json")
    with pytest.raises(FileNotFoundError, match=r"medvlp\.data\.annotations"):
        read_annotations(tmp_path / "none.json")
