from pathlib import Path

import numpy as np
import pytest

from medvlp.data.rad_chestct import CLASSES, RadChestCT
from medvlp.data.records import StudyRecord

from .conftest import write_table

TOKENS = sorted(set(CLASSES.values()))


def row(key: str, **present: str) -> dict[str, object]:
    """A row with two locations of every abnormality; `nodule="left_upper"` sets one cell."""
    cells = {f"{token}*{place}": "0.0" for token in TOKENS for place in ("left_upper", "heart")}
    return {"NoteAcc_DEID": key} | cells | {f"{t}*{place}": "1.0" for t, place in present.items()}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    tables = {
        "train": [row("trn00001", nodule="left_upper"), row("trn00002", calcification="heart")],
        "valid": [row("val00001")],
        "test": [row("tst00001", hernia="heart")],
    }
    for split, rows in tables.items():
        write_table(tmp_path / f"img{split}_Abnormality_and_Location_Labels.csv", rows)
        for entry in rows:
            np.savez(tmp_path / f"{entry['NoteAcc_DEID']}.npz", ct=np.zeros((2, 2, 2), np.int16))
    metadata = [
        {"MRN_DEID": f"m{key[-1]}", "NoteAcc_DEID": key, "PatientName": "?"}
        for key in ("trn00001", "trn00002", "val00001")
    ]
    write_table(tmp_path / "CT_Scan_Metadata_Complete_35747.csv", metadata)
    return tmp_path


def read_all(root: Path, **options: object) -> tuple[dict[str, StudyRecord], dict[str, str]]:
    source = RadChestCT(str(root), **options)
    studies = {study.study_id: study for study in source.studies()}
    return studies, {skip.id: skip.reason for skip in source.skips}


def test_labels_are_the_maximum_over_locations(root: Path) -> None:
    studies, skips = read_all(root)
    assert not skips and list(studies) == ["trn00001", "trn00002", "val00001", "tst00001"]
    present = {key: {n for n, v in study.labels.items() if v} for key, study in studies.items()}
    assert present == {
        "trn00001": {"Lung nodule"},
        "trn00002": {"Coronary artery wall calcification", "Arterial wall calcification"},
        "val00001": set(),
        "tst00001": {"Hiatal hernia"},
    }
    assert tuple(studies["trn00001"].labels) == tuple(CLASSES)
    scan = studies["trn00001"].scans[0]
    assert (scan.spacing_mm, scan.orientation, scan.rescale) == ((0.8, 0.8, 0.8), "IPL", None)
    assert [study.patient_id for study in studies.values()] == ["m1", "m2", "m1", "tst00001"]


def test_all_volumes_are_for_evaluation_unless_told(root: Path) -> None:
    assert {study.split for study in read_all(root)[0].values()} == {"test"}
    studies, _ = read_all(root, merge_into=None)
    assert [study.split for study in studies.values()] == ["train", "train", "val", "test"]
    studies, skips = read_all(root, splits=["test"])
    assert list(studies) == ["tst00001"]
    assert skips["trn00001"] == "the volume has no row in the tables that are read"


@pytest.mark.parametrize("name", ["{0}.pt", "{0}/{0}.pt"])
def test_processed_volumes_have_the_processed_spacing(root: Path, name: str) -> None:
    (root / "trn00002.npz").unlink()
    path = root / name.format("trn00002")
    path.parent.mkdir(exist_ok=True)
    path.touch()
    (root / "trn00001.pt").touch()  # beside its raw volume, which counts
    studies, _ = read_all(root)
    assert studies["trn00002"].scans[0].path == path
    assert studies["trn00002"].scans[0].spacing_mm == (3.0, 1.0, 1.0)
    assert studies["trn00001"].scans[0].path.suffix == ".npz"


def test_volumes_and_tables_may_lie_in_folders(root: Path) -> None:
    for folder, pattern in (("npz", "*.npz"), ("labels", "*.csv")):
        (root / folder).mkdir()
        for path in list(root.glob(pattern)):
            path.rename(root / folder / path.name)
    studies, skips = read_all(root)
    assert len(studies) == 4 and not skips


def test_what_is_left_out_is_named(root: Path) -> None:
    (root / "val00001.npz").unlink()
    (root / "imgtest_Abnormality_and_Location_Labels.csv").unlink()
    (root / "CT_Scan_Metadata_Complete_35747.csv").unlink()
    rows = [row("trn00001"), row("trn00001", nodule="heart"), row(" "), row("trn00002")]
    rows[3]["nodule*heart"] = "?"
    write_table(root / "imgtrain_Abnormality_and_Location_Labels.csv", rows)
    studies, skips = read_all(root)
    assert skips["val00001"] == "listed in the tables, but the file is not there"
    assert skips["tst00001"] == "the volume has no row in the tables that are read"
    assert "table is not there" in skips["imgtest_Abnormality_and_Location_Labels.csv"]
    assert "patient of its own" in skips["CT_Scan_Metadata_Complete_35747.csv"]
    assert "more than once" in skips["trn00001"] and not studies["trn00001"].labels["Lung nodule"]
    assert skips["trn00002"] == "cells that are neither 0 nor 1: Lung nodule unknown"
    assert studies["trn00002"].labels["Lung nodule"] == -1
    assert any("a row without a NoteAcc_DEID" in reason for reason in skips.values())


def test_missing_data_set_and_missing_column(root: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"Request access.*6406114.*medvlp\.phantom rad_"):
        read_all(tmp_path / "absent")
    with pytest.raises(ValueError, match=r"no column 'nodul\*\.\.\.'; did you mean 'nodule'"):
        read_all(root, classes={"Lung nodule": "nodul"})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"splits": ["val"]}, "expected a choice of"),
        ({"merge_into": "all"}, "merge_into is 'all'"),
        ({"orientation": "XYZ"}, "expected three letters"),
    ],
)
def test_senseless_options(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RadChestCT("x", **options)
