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
