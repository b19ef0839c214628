from pathlib import Path

import pytest

from medvlp.data.ct_rate import LABEL_NAMES, CTRate
from medvlp.data.records import StudyRecord
from medvlp.data.scan import Rescale

from .conftest import CTRateTree


def read_all(root: Path, **options: object) -> tuple[dict[str, StudyRecord], dict[str, str]]:
    source = CTRate(str(root), **options)
    studies = {study.study_id: study for study in source.studies()}
    return studies, {skip.id: skip.reason for skip in source.skips}


def test_sessions_group_reconstructions(tree: CTRateTree) -> None:
    studies, skips = read_all(tree.write())
    assert not skips
    assert len(studies) == 8
    study = studies["train_3_a"]
    assert study.patient_id == "train_3" and study.split == "train"
    assert studies["valid_1_a"].split == "test"
    assert [scan.scan_id for scan in study.scans] == ["train_3_a_1", "train_3_a_2"]
    assert study.scans[0].spacing_mm == (2.0, 1.5, 1.0)
    assert study.scans[0].rescale == Rescale(1.0, -1024.0)
    assert study.scans[0].orientation == "SPL"
    assert study.texts["impression"] == "Nodule number 3"
    assert study.labels["Lung nodule"] == 1 and sum(study.labels.values()) == 1
    assert tuple(study.labels) == LABEL_NAMES
    assert study.metadata == {"sex": "F", "age": "36", "manufacturer": "Maker"}


def test_root_may_be_the_dataset_folder_and_one_split_is_enough(tree: CTRateTree) -> None:
    tree.write()
    studies, _ = read_all(tree.dataset, splits=["valid"])
    assert sorted(studies) == ["valid_1_a", "valid_2_a"]


def test_published_exclusions(tree: CTRateTree) -> None:
    tree.add("train", "train_1267_a_4.nii.gz", 1267)
    studies, skips = read_all(tree.write())
    assert "train_1267_a" not in studies and not skips


def test_missing_root_says_what_is_expected_and_where_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"dataset/\{train,valid.*Request access.*twin"):
        read_all(tmp_path / "absent")


def test_empty_table(tree: CTRateTree) -> None:
    tree.write()
    table = tree.dataset / "metadata" / "train_metadata.csv"
    table.write_text("")
    with pytest.raises(ValueError, match=r"train_metadata\.csv is empty; columns expected: Vol"):
        read_all(tree.root)
    table.write_text("VolumeName,RescaleSlope,RescaleIntercept,XYSpacing,ZSpacing\n")
    with pytest.raises(ValueError, match="header but no rows"):
        read_all(tree.root)


def test_missing_label_column_names_the_nearest(tree: CTRateTree) -> None:
    for row in tree.labels["train"]:
        row["Cardiomegali"] = row.pop("Cardiomegaly")
    with pytest.raises(ValueError, match=r"no column 'Cardiomegaly'; did you mean 'Cardiomegali'"):
        read_all(tree.write())


def spoil(tree: CTRateTree, case: str) -> None:
    first = "train_1_a_1.nii.gz"
    if case == "duplicate":
        tree.metadata["train"].append(dict(tree.metadata["train"][0]))
    elif case == "name":
        tree.reports["train"].append({**tree.reports["train"][0], "VolumeName": "../../secret"})
    elif case == "no spacing":
        tree.metadata["train"][0]["ZSpacing"] = ""
    elif case == "spacing zero":
        tree.metadata["train"][0]["XYSpacing"] = "[0, 0]"
    elif case == "slope":
        tree.metadata["train"][0]["RescaleSlope"] = ""
    elif case == "no file":
        tree.path(first).unlink()
    elif case == "no metadata":
        tree.metadata["train"].pop(0)
    elif case == "no volume":
        tree.reports["train"].append({**tree.reports["train"][0], "VolumeName": "train_99_a_1.nii"})
    elif case == "no report":
        tree.reports["train"] = tree.reports["train"][2:]
    elif case == "empty report":
        tree.reports["train"][0] |= {"Findings_EN": "nan", "Impressions_EN": " "}
    elif case == "labels differ":
        tree.labels["train"][1]["Emphysema"] = 1
    elif case == "no labels":
        tree.labels["train"] = tree.labels["train"][2:]


@pytest.mark.parametrize(
    ("case", "id", "reason"),
    [
        ("duplicate", "train_1_a_1.nii.gz", "listed more than once"),
        ("name", "../../secret", "not a CT-RATE volume name"),
        ("no spacing", "train_1_a_1.nii.gz", "no usable spacing"),
        ("spacing zero", "train_1_a_1.nii.gz", "out of the range"),
        ("slope", "train_1_a_1.nii.gz", "metadata table"),
        ("no file", "train_1_a_1.nii.gz", "the file is not there"),
        ("no metadata", "train_1_a_1.nii.gz", "no row in the metadata table"),
        ("no volume", "train_99_a_1.nii", "a report without a volume"),
        ("no report", "train_1_a", "a volume without a report: not for training"),
        ("empty report", "train_1_a", "the report is empty: not for training"),
        ("labels differ", "train_1_a", "disagree on the label 'Emphysema'"),
        ("no labels", "train_1_a", "all labels unknown"),
    ],
)
def test_what_is_left_out_is_named(tree: CTRateTree, case: str, id: str, reason: str) -> None:
    tree.write()
    spoil(tree, case)
    tree.write_tables()
    studies, skips = read_all(tree.root)
    assert list(skips) == [id] and reason in skips[id]
    assert "train_1_a" in studies  # the other reconstruction, or the study itself, is kept
    if "report" in reason and "without a volume" not in reason:
        assert not studies["train_1_a"].texts
    if case == "labels differ":
        assert studies["train_1_a"].labels["Emphysema"] == -1
        assert studies["train_1_a"].labels["Lung nodule"] == 1


def test_unknown_split() -> None:
    with pytest.raises(ValueError, match="expected a choice of"):
        CTRate("x", splits=["test"])
