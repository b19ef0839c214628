from pathlib import Path

import pytest

from medvlp.data.bimcv_r import BIMCVR
from medvlp.data.records import StudyRecord

from .conftest import write_table


def name_of(patient: int, session: int, run: int = 1) -> str:
    return f"sub-S{patient:05d}_ses-E{session:05d}_run-{run}_bp-chest_ct.nii.gz"


def row(patient: int, session: int, run: int = 1, **cells: str) -> dict[str, object]:
    return {
        "PatientID": f"sub-S{patient:05d}",
        "ReportID": f"ses-E{session:05d}",
        "Report": "se realiza tc .",
        "Labels": "['', 'nodule', ' pleural effusion']",
        "path": f"/away/{name_of(patient, session, run)}",
        "Report_en": "A nodule.",
    } | cells


def write(root: Path, rows: list[dict[str, object]]) -> Path:
    write_table(root / "meta" / "curated_ct_report_path_En.csv", rows)
    for number, entry in enumerate(rows):
        folder = root / f"CT{number // 4}" / "ct"
        folder.mkdir(parents=True, exist_ok=True)
        name = str(entry.get("ct_path") or entry["path"]).rpartition("/")[2]
        if name.endswith(".nii.gz"):
            (folder / name).touch()
    return root


def read_all(root: Path, **options: object) -> tuple[list[StudyRecord], dict[str, str]]:
    source = BIMCVR(str(root), **options)
    studies = list(source.studies())
    return studies, {skip.id: skip.reason for skip in source.skips}


def test_sessions_and_the_published_cut(tmp_path: Path) -> None:
    rows = [row(1, 1), row(1, 1, 2), row(2, 2), row(3, 3), row(4, 4)]
    studies, skips = read_all(write(tmp_path, rows))
    assert not skips
    assert [study.study_id for study in studies] == [
        f"sub-S0000{n}_ses-E0000{n}" for n in (1, 2, 3, 4)
    ]
    assert [study.split for study in studies] == ["train", "train", "train", "test"]
    first = studies[0]
    assert [scan.path.name for scan in first.scans] == [name_of(1, 1), name_of(1, 1, 2)]
    assert first.scans[0].scan_id == name_of(1, 1).removesuffix(".nii.gz")
    assert first.texts == {"findings": "A nodule."}
    assert {name for name, value in first.labels.items() if value} == {"nodule", "pleural effusion"}
    assert first.labels["pneumonia"] == 0


def test_a_patient_on_both_sides_of_the_cut_stays_together(tmp_path: Path) -> None:
    studies, skips = read_all(write(tmp_path, [row(n, n) for n in (1, 2, 3, 4)] + [row(1, 9)]))
    assert [study.split for study in studies] == ["train"] * 5
    assert "the published cut is by row" in skips["1 rows"]


def test_spanish_on_request_and_ct_path(tmp_path: Path) -> None:
    away = {"path": "/away/mod-rx", "ct_path": f"/away/mod-rx/{name_of(1, 1)}"}
    studies, skips = read_all(write(tmp_path, [row(1, 1, **away)]), spanish=True)
    assert not skips and studies[0].texts["findings_es"] == "se realiza tc ."


def test_what_is_left_out_is_named(tmp_path: Path) -> None:
    rows = [
        row(1, 1, Labels="nodule", Report_en=""),
        row(1, 1),
        row(2, 2, path="/away/../../../etc/passwd"),
        row(3, 3),
        row(4, 4, Labels="__import__('os').getcwd()"),
    ]
    write(tmp_path, rows)
    (tmp_path / "CT0/ct" / name_of(3, 3)).unlink()
    (tmp_path / "CT0/ct" / name_of(9, 9)).touch()
    (tmp_path / "CT1/ct" / name_of(1, 1)).touch()
    studies, skips = read_all(tmp_path)
    assert [study.patient_id for study in studies] == ["sub-S00001", "sub-S00004"]
    assert set(studies[0].labels.values()) == {-1} == set(studies[1].labels.values())
    assert not studies[0].texts
    assert "the name is there twice; CT0 counts" in skips[str(tmp_path / "CT1/ct" / name_of(1, 1))]
    assert "listed more than once" in skips[name_of(1, 1)]
    assert "without a .nii.gz file" in skips["passwd"]
    assert "the file is not there" in skips[name_of(3, 3)]
    assert "no row in the table" in skips[name_of(9, 9)]
    assert "not a list: all unknown" in skips["sub-S00004_ses-E00004"]


def test_missing_data_set(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"cyd0806/BIMCV-R.*medvlp\.phantom bimcv_r DIR"):
        read_all(tmp_path)
    with pytest.raises(ValueError, match="expected a share"):
        BIMCVR("x", train_share=80.0)
