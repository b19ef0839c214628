import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from medvlp.data.autopet import AutoPET, split_of
from medvlp.data.lesion_table import BOX_COLUMNS
from medvlp.data.records import StudyRecord

from .conftest import write_table

TREE = {"Chest": {"Left lung": {"Apex": "Left apex"}, "Right lung": {"Apex": "Right apex"}}}


class AutoPETTree:
    """A tiny AutoPET, whose table a test may spoil before it is written."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.rows: list[dict[str, object]] = []
        for case in ("PETCT_aa_1", "PETCT_aa_2", "PETCT_bb_1", "PETCT_cc/12-01-2003-NA-PET CT-7"):
            self.add_case(case)
        self.add("PETCT_aa_1", 5.0, "Left apex")
        self.add("PETCT_aa_1", 12.0, "Right apex, Left apex")
        self.add("PETCT_cc/12-01-2003-NA-PET CT-7", 8.0, "Right apex")
        (root / "anatomy_vocabulary_library.json").write_text(json.dumps(TREE))

    def add_case(self, case: str) -> None:
        for name in ("CT", "SUV", "SEG"):
            self.volume(self.root / "FDG-PET-CT-Lesions" / case / f"{name}.nii.gz")
        self.volume(self.root / "lesion_mask" / case / "SEG_MultiLabel.nii.gz")

    def volume(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        array = np.zeros((10, 10, 10), np.int16)
        nib.save(nib.Nifti1Image(array, np.diag([-2.0, -2.0, 2.0, 1.0])), path)

    def add(self, case: str, place: float, name: str, **more: object) -> None:
        box = dict(zip(BOX_COLUMNS, (place, place, place, 4, 4, 4), strict=True))
        path = f"data/FDG-PET-CT-Lesions/{case}/CT.nii.gz"
        self.rows.append({"image_path": path, **box, "GT": name, **more})

    def read(self, **options: Any) -> tuple[dict[str, StudyRecord], dict[str, str]]:
        write_table(self.root / "anno.csv", self.rows)
        content = (self.root / "anno.csv").read_text(encoding="utf-8")
        (self.root / "anno.csv").write_text(content, encoding="utf-8-sig")
        source = AutoPET(str(self.root), **options)
        studies = {study.study_id: study for study in source.studies()}
        return studies, {skip.id: skip.reason for skip in source.skips}


@pytest.fixture
def tree(tmp_path: Path) -> AutoPETTree:
    return AutoPETTree(tmp_path / "autopet")


def test_cases_with_their_files_lesions_and_places(tree: AutoPETTree) -> None:
    studies, skips = tree.read()
    assert not skips and len(studies) == 4
    study = studies["PETCT_aa_1"]
    assert study.patient_id == studies["PETCT_aa_2"].patient_id == "PETCT_aa"
    assert study.split == studies["PETCT_aa_2"].split == split_of("PETCT_aa", 0.2)
    (scan,) = study.scans
    assert scan.path.name == "CT.nii.gz"
    assert {name: path.name for name, path in scan.companions.items()} == {
        "pet": "SUV.nii.gz",
        "lesion_mask": "SEG_MultiLabel.nii.gz",
    }
    first, second = study.lesions
    assert first.box_mm == (5.0, 5.0, 5.0, 4.0, 4.0, 4.0) and first.label == 0
    assert (first.place, first.coarse, first.fine) == ("Left apex", "Left lung", "Apex")
    assert second.place == "Right apex,Left apex" and second.coarse == "Right lung,Left lung"
    assert not studies["PETCT_bb_1"].lesions  # a case without lesions is a case


def test_studies_in_folders_of_patients_as_the_images_are_handed_out(tree: AutoPETTree) -> None:
    studies, _ = tree.read()
    study = studies["PETCT_cc/12-01-2003-NA-PET CT-7"]
    assert study.patient_id == "PETCT_cc" and len(study.lesions) == 1
    assert study.scans[0].companions["lesion_mask"].is_file()


def test_the_folder_above_data_will_do(tmp_path: Path) -> None:
    tree = AutoPETTree(tmp_path / "data")
    tree.read()
    assert len(list(AutoPET(str(tmp_path)).studies())) == 4


def test_without_a_vocabulary_names_stay_names(tree: AutoPETTree) -> None:
    (tree.root / "anatomy_vocabulary_library.json").unlink()
    lesion = tree.read()[0]["PETCT_aa_1"].lesions[0]
    assert (lesion.place, lesion.coarse, lesion.fine) == ("Left apex", "", "")
    with pytest.raises(FileNotFoundError, match="HCL-AL's two files"):
        tree.read(vocabulary="absent.json")


def test_a_shipped_vocabulary_is_taken_by_its_name(tree: AutoPETTree) -> None:
    tree.add("PETCT_bb_1", 8.0, "Couinaud segment IVa")
    studies, skips = tree.read(vocabulary="whole_body")
    (lesion,) = studies["PETCT_bb_1"].lesions
    assert lesion.coarse == "Liver" and lesion.fine
    assert "'Left apex' is not a place of the vocabulary" in skips["PETCT_aa_1, lesion 001"]
    with pytest.raises(FileNotFoundError, match=r"these are .*whole_body"):
        tree.read(vocabulary="whole-body")


def test_a_table_of_boxes_alone(tree: AutoPETTree) -> None:
    for row in tree.rows:
        row.pop("GT")
    with pytest.raises(ValueError, match="no column 'GT'"):
        tree.read()
    studies, skips = tree.read(place_column=None)
    assert not skips and studies["PETCT_aa_1"].lesions[0].place == ""


def test_splits_and_labels_that_the_table_states(tree: AutoPETTree) -> None:
    for row in tree.rows:
        row |= {"split": "val", "label": 3}
    studies, _ = tree.read()
    assert studies["PETCT_aa_2"].split == "val"  # the patient's, though not listed
    assert studies["PETCT_aa_1"].lesions[0].label == 3
    tree.rows[1]["split"] = "test"
    with pytest.raises(ValueError, match=r"PETCT_aa_1.*'test', and patient PETCT_aa into 'val'"):
        tree.read()


def test_metadata_of_patients(tree: AutoPETTree) -> None:
    row = {"Subject ID": "PETCT_aa", "diagnosis": "LYMPHOMA", "age": "061Y", "sex": "M"}
    write_table(tree.root / "fdg_metadata.csv", [row])
    metadata = tree.read()[0]["PETCT_aa_2"].metadata
    assert metadata == {"diagnosis": "LYMPHOMA", "age": "61", "sex": "M"}


def spoil(tree: AutoPETTree, case: str) -> None:
    if case == "unknown place":
        tree.rows[0]["GT"] = "Left apx"
    elif case == "no place":
        tree.rows[0]["GT"] = ""
    elif case == "no number":
        tree.rows[0]["width"] = "wide"
    elif case == "no size":
        tree.rows[0]["depth"] = 0
    elif case == "not a number":
        tree.rows[0]["x"] = "nan"
    elif case == "RAS":
        tree.rows[0] |= {"x": -5.0, "y": -5.0}
    elif case == "twice":
        tree.rows.insert(1, dict(tree.rows[0]))
    elif case == "no case":
        tree.rows.append({**tree.rows[0], "image_path": "../../secret/CT.nii.gz"})
    elif case == "bad label":
        tree.rows[0]["label"] = "three"
    elif case == "no mask":
        (tree.root / "lesion_mask/PETCT_aa_1/SEG_MultiLabel.nii.gz").unlink()
    elif case == "no CT":
        (tree.root / "FDG-PET-CT-Lesions/PETCT_bb_1/CT.nii.gz").unlink()


@pytest.mark.parametrize(
    ("case", "id", "reason"),
    [
        ("unknown place", "PETCT_aa_1, lesion 001", "did you mean 'Left apex'"),
        ("no place", "PETCT_aa_1, lesion 001", "no place"),
        ("no number", "PETCT_aa_1, lesion 001", "is not six numbers"),
        ("no size", "PETCT_aa_1, lesion 001", "not above 0 mm"),
        ("not a number", "PETCT_aa_1, lesion 001", "not in millimetres of a patient"),
        ("RAS", "PETCT_aa_1, lesion 001", "outside the image; are x, y, z LPS?"),
        ("twice", "PETCT_aa_1, lesion 002", "listed twice"),
        ("no case", "../../secret/CT.nii.gz", "no such case"),
        ("bad label", "PETCT_aa_1, lesion 001", "expected a whole number"),
        ("no mask", "PETCT_aa_1", "no SEG_MultiLabel.nii.gz: the binary SEG.nii.gz instead"),
        ("no CT", "FDG-PET-CT-Lesions/PETCT_bb_1", "a PET without its CT.nii.gz"),
    ],
)
def test_what_is_left_out_is_named(tree: AutoPETTree, case: str, id: str, reason: str) -> None:
    spoil(tree, case)
    for row in tree.rows:
        row.setdefault("label", "")
    studies, skips = tree.read()
    assert reason in skips.pop(id)
    assert not skips or case == "no CT"  # whose mask is then without a case
    dropped = {"no number", "no size", "not a number", "RAS", "bad label"}
    assert len(studies["PETCT_aa_1"].lesions) == (1 if case in dropped else 2)
    if case in {"unknown place", "no place"}:
        assert studies["PETCT_aa_1"].lesions[0].place == ""


def test_a_damaged_ct_is_left_to_preparation(tree: AutoPETTree) -> None:
    (tree.root / "FDG-PET-CT-Lesions/PETCT_aa_1/CT.nii.gz").write_bytes(b"\x1f\x8bnothing")
    studies, skips = tree.read()
    assert len(studies["PETCT_aa_1"].lesions) == 2 and not skips


def test_a_missing_root_says_where_to_ask(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"gkr0-xv29.*phantom autopet"):
        list(AutoPET(str(tmp_path / "absent")).studies())


def test_shares_outside_their_range_are_refused() -> None:
    with pytest.raises(ValueError, match="expected 0 to 1"):
        AutoPET("x", test_fraction=1.5)
