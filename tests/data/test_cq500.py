from pathlib import Path

import pytest

from medvlp.data.cq500 import CQ500, LABEL_NAMES, READERS
from medvlp.data.records import StudyRecord

from .conftest import write_table

SERIES = {
    "CT PLAIN THIN": 4,
    "CT Plain": 2,
    "CT PRE CONTRAST BONE": 3,
    "CT POST CONTRAST": 5,
    "CT 4cc sec 150cc D3D on": 9,
    "empty": 0,
}


def reads(name: str, *votes: dict[str, str]) -> dict[str, object]:
    row: dict[str, object] = {"name": name, "Category": "B1"}
    for reader, given in zip(READERS, votes, strict=True):
        row |= {f"{reader}:{label}": given.get(label, "0") for label in LABEL_NAMES}
    return row


def patient(folder: Path, series: dict[str, int]) -> None:
    for name, count in series.items():
        (folder / name).mkdir(parents=True)
        for index in range(count):
            (folder / name / f"CT{index:06d}.dcm").write_bytes(b"")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    patient(tmp_path / "CQ500CT0 CQ500CT0" / "Unknown Study", SERIES)
    deep = tmp_path / "qct02" / "CQ500-CT-12" / "CQ500CT12_CQ500CT12" / "Unknown_Study"
    patient(deep, {"CT_5mm": 2})
    rows = [
        reads(
            "CQ500-CT-0",
            {"ICH": "1", "SDH": "1", "IVH": ""},
            {"ICH": "1", "IPH": "1"},
            {"IVH": "1"},
        ),
        reads("CQ500-CT-12", {}, {}, {}),
    ]
    write_table(tmp_path / "reads.csv", rows)
    return tmp_path


def read_all(root: Path, **options: object) -> tuple[dict[str, StudyRecord], dict[str, str]]:
    source = CQ500(str(root), **options)
    studies = {study.study_id: study for study in source.studies()}
    return studies, {skip.id: skip.reason for skip in source.skips}


def test_two_of_three_readers_decide(root: Path) -> None:
    studies, _ = read_all(root)
    labels = studies["CQ500-CT-0"].labels
    assert tuple(labels) == LABEL_NAMES and len(labels) == 14
    assert (labels["ICH"], labels["SDH"], labels["IPH"]) == (1, 0, 0)
    assert labels["IVH"] == -1  # an empty cell, a no and a yes
    assert set(studies["CQ500-CT-12"].labels.values()) == {0}
    assert studies["CQ500-CT-0"].metadata == {"category": "B1"}


def test_plain_series_are_taken_and_the_others_told(root: Path) -> None:
    studies, skips = read_all(root)
    scans = studies["CQ500-CT-0"].scans
    assert [scan.scan_id for scan in scans] == ["CQ500-CT-0/CT PLAIN THIN", "CQ500-CT-0/CT Plain"]
    assert [len(scan.files) for scan in scans] == [4, 2]
    assert {scan.modality for scan in scans} == {"CT"}
    assert skips == {
        "CQ500-CT-0/CT 4cc sec 150cc D3D on": "series left out: contrast medium, by its name",
        "CQ500-CT-0/CT POST CONTRAST": "series left out: contrast medium, by its name",
        "CQ500-CT-0/CT PRE CONTRAST BONE": "series left out: bone kernel, by its name",
    }


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("CT PRE CONTRAST THIN", True),
        ("CT 5 MM PRE CONTRAST-2", True),
        ("CT Thin Details", True),
        ("CT 0.625 MM HI RES", True),
        ("CT CECT THIN", False),
        ("CT ORAL IV-2", False),
        ("CT 5mm POST CONTRAST", False),
        ("CT CONTRAST", False),
        ("CT Thin Bone", False),
    ],
)
def test_names_of_series(tmp_path: Path, name: str, plain: bool) -> None:
    patient(tmp_path / "CQ500CT3 CQ500CT3" / "Unknown Study", {name: 2})
    write_table(tmp_path / "reads.csv", [reads("CQ500-CT-3", {}, {}, {})])
    studies, _ = read_all(tmp_path)
    assert bool(studies) is plain


@pytest.mark.parametrize(("choice", "taken"), [("thin", "CT PLAIN THIN"), ("thick", "CT Plain")])
def test_one_series_can_be_chosen(root: Path, choice: str, taken: str) -> None:
    studies, skips = read_all(root, series=choice)
    assert [scan.path.name for scan in studies["CQ500-CT-0"].scans] == [taken]
    assert len(skips) == 4 and f"not the one that series={choice} asks for" in str(skips)


def test_all_series_can_be_taken(root: Path) -> None:
    studies, skips = read_all(root, series="all")
    assert len(studies["CQ500-CT-0"].scans) == 5 and not skips


def test_what_does_not_fit_is_named(root: Path) -> None:
    patient(root / "CQ500CT7 CQ500CT7" / "Unknown Study", {"CT Plain": 1})
    (root / "reads.csv").unlink()
    write_table(root / "reads.csv", [reads("CQ500-CT-0", {}, {}, {}), reads("x", {}, {}, {})])
    studies, skips = read_all(root)
    assert list(studies) == ["CQ500-CT-0"]
    assert skips["x"] == "listed in reads.csv, but its folder is not there"
    assert "without a row" in skips["CQ500-CT-7"] and "without a row" in skips["CQ500-CT-12"]


def test_wrong_options_and_an_empty_root(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"headctstudy.qure.ai.*medvlp.phantom cq500"):
        read_all(tmp_path)
    with pytest.raises(ValueError, match="series is 'soft'"):
        CQ500(".", series="soft")
    with pytest.raises(ValueError, match="label_names is"):
        CQ500(".", label_names=["Stroke"])
