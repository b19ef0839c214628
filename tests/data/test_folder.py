from pathlib import Path

import pytest

from medvlp.data.folder import Folder

from .conftest import write_table


def table(tmp_path: Path, *rows: dict[str, object]) -> str:
    write_table(tmp_path / "studies.csv", list(rows))
    return str(tmp_path / "studies.csv")


def test_studies_of_a_table(tmp_path: Path) -> None:
    for name in ("a.nii", "b.nii", "c d.nii"):
        (tmp_path / name).touch()
    rows: list[dict[str, object]] = [
        {"study_id": "1", "path": "a.nii;b.nii", "split": "train", "report": "Clear.", "x": 1},
        {"study_id": "2", "path": "c d.nii", "split": "", "report": "", "x": ""},
    ]
    source = Folder(
        table(tmp_path, *rows),
        str(tmp_path),
        text_columns={"findings": "report"},
        label_columns=["x"],
    )
    one, two = source.studies()
    assert [scan.scan_id for scan in one.scans] == ["1/a.nii", "1/b.nii"]
    assert (one.split, two.split) == ("train", "test")
    assert one.texts == {"findings": "Clear."} and not two.texts
    assert (one.labels, two.labels) == ({"x": 1}, {"x": -1})
    assert [skip.id for skip in source.skips] == ["2"]


@pytest.mark.parametrize("path", ["../x.nii", "/etc/passwd", "sub/../../x.nii", "link/x.nii"])
def test_paths_may_not_leave_the_root(tmp_path: Path, path: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "x.nii").touch()
    (root / "link").symlink_to(tmp_path)
    source = Folder(table(tmp_path, {"study_id": "1", "path": path}), str(root))
    assert not list(source.studies())
    assert "leads out of" in source.skips[0].reason


def test_absent_scans_and_odd_labels_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.nii").touch()
    source = Folder(
        table(tmp_path, {"study_id": "1", "path": "a.nii;b.nii", "x": "yes"}),
        str(tmp_path),
        label_columns=["x"],
    )
    assert next(iter(source.studies())).labels == {"x": -1}
    assert [skip.id for skip in source.skips] == ["b.nii", "1"]


def test_table_with_byte_order_mark_and_missing_column(tmp_path: Path) -> None:
    path = tmp_path / "studies.csv"
    path.write_text("study_id,path\n1,a.nii\n", encoding="utf-8-sig")
    assert not list(Folder(str(path), str(tmp_path)).studies())
    with pytest.raises(ValueError, match="no column 'Findings'"):
        list(Folder(str(path), str(tmp_path), text_columns={"findings": "Findings"}).studies())
    path.write_text("study_id,path\n1,a.nii,extra\n")
    with pytest.raises(ValueError, match=r"line 2.*more or fewer cells"):
        list(Folder(str(path), str(tmp_path)).studies())


def test_unknown_split_name(tmp_path: Path) -> None:
    (tmp_path / "a.nii").touch()
    source = Folder(
        table(tmp_path, {"study_id": "1", "path": "a.nii", "split": "holdout"}), str(tmp_path)
    )
    with pytest.raises(ValueError, match="split is 'holdout'"):
        list(source.studies())


def test_a_dicom_folder_masks_and_stated_geometry(tmp_path: Path) -> None:
    for name in ("series/1.dcm", "b.npz", "m1.nii", "m2.nii"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    rows: list[dict[str, object]] = [
        {
            "study_id": "1",
            "path": "series; b.npz",
            "anatomy_mask": "m1.nii;m2.nii",
            "modality": "mr",
        },
        {"study_id": "2", "path": "b.npz", "anatomy_mask": "", "modality": ""},
    ]
    geometry = {"spacing_mm": "3 x 0.7 x 0.7", "orientation": "spl"}
    rows = [rows[0] | dict.fromkeys(geometry, ""), rows[1] | geometry]
    source = Folder(table(tmp_path, *rows), str(tmp_path))
    one, two = source.studies()
    assert not source.skips
    assert [scan.path.name for scan in one.scans] == ["series", "b.npz"]
    assert [scan.companions["anatomy_mask"].name for scan in one.scans] == ["m1.nii", "m2.nii"]
    assert [scan.modality for scan in one.scans] == ["MR", "MR"]
    assert (two.scans[0].modality, two.scans[0].spacing_mm) == ("CT", (3.0, 0.7, 0.7))
    assert two.scans[0].orientation == "SPL" and not two.scans[0].companions


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        ({"modality": "MRI"}, "did you mean 'MR'"),
        ({"spacing_mm": "1 1"}, "expected three lengths in mm"),
        ({"spacing_mm": "0 1 1"}, "out of the range"),
        ({"orientation": "SPQ"}, "expected three letters"),
    ],
)
def test_a_row_that_cannot_be_is_left_out(
    tmp_path: Path, cells: dict[str, object], reason: str
) -> None:
    (tmp_path / "a.nii").touch()
    rows = [{"study_id": "1", "path": "a.nii"} | cells, {"study_id": "2", "path": "a.nii"}]
    rows[1] |= dict.fromkeys(cells, "")
    source = Folder(table(tmp_path, *rows), str(tmp_path))
    assert [study.study_id for study in source.studies()] == ["2"]
    assert source.skips[0].id == "a.nii" and reason in source.skips[0].reason


def test_links_to_themselves_empty_folders_and_long_names(tmp_path: Path) -> None:
    (tmp_path / "loop.nii").symlink_to("loop.nii")
    (tmp_path / "empty").mkdir()
    long = "x" * 400
    rows = [{"study_id": name, "path": name} for name in ("loop.nii", "empty", long)]
    source = Folder(table(tmp_path, *rows), str(tmp_path))
    assert not list(source.studies())
    reasons = [skip.reason for skip in source.skips]
    assert "cannot be followed" in reasons[0] and "an empty folder" in reasons[2]
    assert "cannot be followed" in reasons[4]


def test_contradictions_slips_and_masks_that_do_not_match(tmp_path: Path) -> None:
    for name in ("a.nii", "b.nii", "m.nii"):
        (tmp_path / name).touch()
    rows: list[dict[str, object]] = [
        {
            "study_id": "1",
            "path": "a.nii;b.nii",
            "anatomy_mask": "m.nii",
            "report": "One.",
            "Splitt": "",
        },
        {
            "study_id": "1",
            "path": "a.nii",
            "anatomy_mask": "../m.nii",
            "report": "Two.",
            "Splitt": "",
        },
    ]
    source = Folder(
        table(tmp_path, *rows),
        str(tmp_path),
        text_columns={"findings": "report"},
    )
    (study,) = source.studies()
    assert study.texts == {"findings": "One."} and len(study.scans) == 2
    assert not any(scan.companions for scan in study.scans)
    told = {skip.id: skip.reason for skip in source.skips}
    assert told["column 'Splitt'"] == "the column is not read; did you mean 'split'?"
    assert "leads out of" in told["../m.nii"]
    assert {skip.reason for skip in source.skips if skip.id == "1"} == {
        "1 paths in 'anatomy_mask' for 2 scans: none is used",
        "its rows disagree on 'report'; the first row counts",
    }
