import json
from pathlib import Path

import pytest

from medvlp.data.mr_rate import LABEL_NAMES, MRRate
from medvlp.data.records import StudyRecord

from .conftest import write_table


def series(study: str, patient: str, series_id: str, number: int) -> dict[str, object]:
    modality = {"t1w": "T1w", "flair": "FLAIR", "mra": "MRA"}[series_id.split("-")[0]]
    return {
        "patient_uid": patient,
        "study_uid": study,
        "series_id": series_id,
        "classified_modality": modality,
        "acquisition_plane": "AXIAL",
        "SeriesNumber": number,
        "Patient'sAge": 63,
        "Patient'sSex": "M",
        "Manufacturer": "SIEMENS",
    }


class Tree:
    """An MR-RATE folder of three studies, whose tables a test may spoil before it is written."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.metadata = [
            series("S1", "P1", "flair-raw-axi", 7),
            series("S1", "P1", "t1w-raw-axi", 2),
            series("S1", "P1", "mra-raw-axi", 9),
            series("S2", "P1", "t1w-raw-axi", 3),
            series("S3", "P2", "t1w-raw-axi", 3),
        ]
        self.files = {(row["study_uid"], row["series_id"]) for row in self.metadata}
        self.reports = [
            {"study_uid": name, "report": "", "findings": f"Finding {name}.", "impression": "nan"}
            for name in ("S1", "S2", "S3")
        ]
        self.labels = [
            {"study_uid": name} | {label: int(label == "Glioma") for label in LABEL_NAMES}
            for name in ("S1", "S2", "S3")
        ]
        self.splits = [
            {"batch_id": "batch00", "patient_uid": patient, "study_uid": study, "split": split}
            for study, patient, split in (
                ("S1", "P1", "train"),
                ("S2", "P1", "train"),
                ("S3", "P2", "validation"),
            )
        ]

    def write(self) -> Path:
        for study, name in self.files:
            path = self.root / "mri/batch00" / str(study) / "img" / f"{study}_{name}.nii.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"")
        write_table(self.root / "metadata/batch00_metadata.csv", self.metadata)
        write_table(self.root / "reports/batch00_reports.csv", self.reports)
        write_table(self.root / "pathology_labels/mrrate_labels.csv", self.labels)
        write_table(self.root / "splits.csv", self.splits)
        return self.root


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def read_all(root: Path, **options: object) -> tuple[dict[str, StudyRecord], dict[str, str]]:
    source = MRRate(str(root), **options)
    studies = {study.study_id: study for study in source.studies()}
    return studies, {skip.id: skip.reason for skip in source.skips}


def test_series_stand_in_the_order_of_acquisition(tree: Tree) -> None:
    studies, skips = read_all(tree.write())
    assert not skips
    study = studies["S1"]
    assert [scan.scan_id for scan in study.scans] == [
        "S1_t1w-raw-axi",
        "S1_flair-raw-axi",
        "S1_mra-raw-axi",
    ]
    assert {scan.modality for scan in study.scans} == {"MR"}
    assert json.loads(study.metadata["sequences"])["S1_flair-raw-axi"] == "FLAIR AXIAL"
    assert {name: study.metadata[name] for name in ("sex", "age", "manufacturer")} == {
        "sex": "M",
        "age": "63",
        "manufacturer": "SIEMENS",
    }


def test_splits_patients_texts_and_labels(tree: Tree) -> None:
    studies, _ = read_all(tree.write())
    assert {name: study.split for name, study in studies.items()} == {
        "S1": "train",
        "S2": "train",
        "S3": "val",
    }
    assert studies["S2"].patient_id == "P1"
    assert studies["S2"].texts == {"findings": "Finding S2."}
    assert len(LABEL_NAMES) == 37 and tuple(studies["S1"].labels) == LABEL_NAMES
    assert sum(studies["S1"].labels.values()) == studies["S1"].labels["Glioma"] == 1


def test_splits_and_sequences_can_be_chosen(tree: Tree) -> None:
    studies, skips = read_all(tree.write(), splits=["train"], sequences=["FLAIR", "MRA"])
    assert [len(study.scans) for study in studies.values()] == [2]
    assert skips == {"S1": "1 series of the kind 'T1w': not asked", "S2": skips["S2"]}
    with pytest.raises(ValueError, match="sequences is"):
        MRRate(".", sequences=["DWI"])
    with pytest.raises(ValueError, match="splits is"):
        MRRate(".", splits=["valid"])


def test_what_does_not_fit_is_named(tree: Tree) -> None:
    tree.files.discard(("S1", "mra-raw-axi"))
    tree.files = {key for key in tree.files if key[0] != "S3"} | {("S9", "t1w-raw-axi")}
    tree.reports[0] |= {"findings": ""}
    del tree.labels[1]
    tree.splits[1] |= {"split": "holdout"}
    studies, skips = read_all(tree.write())
    assert list(studies) == ["S1"]
    assert skips["S1_mra-raw-axi"] == "listed in the metadata, but not there"
    assert "its split is 'holdout'" in skips["S2"]
    assert skips["S3"] == "listed in the tables, but its folder is not there"
    assert "without a row in the metadata" in skips["S9"]
    assert "without a report" in skips["S1"]


def test_a_study_without_labels_has_unknown_ones(tree: Tree) -> None:
    del tree.labels[0]
    studies, skips = read_all(tree.write())
    assert set(studies["S1"].labels.values()) == {-1}
    assert "all labels unknown" in skips["S1"]


def test_zip_files_must_be_unpacked(tree: Tree) -> None:
    tree.files = set()
    folder = tree.write() / "mri/batch00"
    folder.mkdir(parents=True)
    (folder / "S1.zip").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match=r"1 studies under .* are still zipped"):
        read_all(tree.root)


def test_an_empty_root_says_where_to_ask(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"Forithmus/MR-RATE.*medvlp.phantom mr_rate"):
        read_all(tmp_path)
