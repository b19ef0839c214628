from pathlib import Path

import pytest

from medvlp.data.pub_brain_5 import LABEL_NAMES, PubBrain5, study_key
from medvlp.data.records import StudyRecord

from .conftest import write_table

GLIOMA = "brats23/train/adult_glioma/BraTS-GLI-00459-000"
MENINGIOMA = "brats23/test/adult_meningioma/BraTS-MEN-00001-000"
STROKE = "stroke/sub-b74a5032"
NYU = "nyu_mets/NYU_Mets_96952621_1244531997"
UCSF = "ucsf_mets/100238F"
NORMAL = "open_bhb/sub-135700393345"


def touch(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")


def row(study: str, label: str) -> dict[str, object]:
    classes = {name: int(name == label) for name in LABEL_NAMES}
    return {"study": f"/data/pub_brain_5/{study}", **classes}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    gli = tmp_path / "brats23/BraTS-GLI/ASNR-MICCAI-BraTS2023-GLI-Challenge-TrainingData"
    for name in ("t2w", "t1c", "seg"):
        touch(gli / f"BraTS-GLI-00459-000/BraTS-GLI-00459-000-{name}.nii.gz")
    touch(gli / "BraTS-GLI-00459-000/.hidden.nii.gz")
    men = tmp_path / "brats23/BraTS-MEN/BraTS-MEN-Validation/BraTS-MEN-00001-000"
    touch(men / "BraTS-MEN-00001-000-t1n.nii.gz")
    touch(tmp_path / "brats23/BraTS-MEN/Additional/BraTS-MEN-7-000/BraTS-MEN-7-000-t1n.nii.gz")
    for series in ("DWI", "ADC", "lesion_mask", "T1wSEG"):
        touch(tmp_path / STROKE / series / "nifti/SERIES.nii.gz")
    (tmp_path / STROKE / "FLAIR/nifti").mkdir(parents=True)
    for study in (NYU, UCSF, NORMAL):
        touch(tmp_path / study / "T1/nifti/SERIES.nii.gz")
    pairs = {
        NYU: "Metastasis",
        NORMAL: "Normal",
        GLIOMA: "Glioma",
        STROKE: "Stroke",
        MENINGIOMA: "Meningioma",
        UCSF: "Metastasis",
    }
    write_table(tmp_path / "pub_brain_5.csv", [row(*pair) for pair in pairs.items()])
    slices = {GLIOMA: "[ 59  60\n  61]", STROKE: "[17 18 57 58]"}
    truth = [
        {"study": f"/data/pub_brain_5/{key}", "target_slices": text} for key, text in slices.items()
    ]
    write_table(tmp_path / "ground_truth.csv", truth)
    return tmp_path


def read_all(root: Path, **options: object) -> tuple[dict[str, StudyRecord], dict[str, str]]:
    source = PubBrain5(str(root), **options)
    studies = {study.study_id: study for study in source.studies()}
    return studies, {skip.id: skip.reason for skip in source.skips}


def test_five_sources_are_read_in_the_order_of_the_table(root: Path) -> None:
    studies, skips = read_all(root)
    assert list(studies) == [NYU, NORMAL, GLIOMA, STROKE, MENINGIOMA, UCSF]
    assert [scan.scan_id for scan in studies[GLIOMA].scans] == [
        f"{GLIOMA}/BraTS-GLI-00459-000-t1c",
        f"{GLIOMA}/BraTS-GLI-00459-000-t2w",
    ]
    assert [scan.scan_id for scan in studies[STROKE].scans] == [f"{STROKE}/ADC", f"{STROKE}/DWI"]
    assert {scan.modality for study in studies.values() for scan in study.scans} == {"MR"}
    assert skips == {f"{STROKE}/FLAIR": "the series has no SERIES.nii.gz"}


def test_labels_splits_patients_and_lesion_slices(root: Path) -> None:
    studies, _ = read_all(root)
    assert studies[STROKE].labels == {name: int(name == "Stroke") for name in LABEL_NAMES}
    assert {study.split for study in studies.values()} == {"test"}
    assert {key: study.patient_id for key, study in studies.items()} == {
        NYU: "NYU_Mets_96952621",
        NORMAL: "sub-135700393345",
        GLIOMA: "BraTS-GLI-00459",
        STROKE: "sub-b74a5032",
        MENINGIOMA: "BraTS-MEN-00001",
        UCSF: "100238",
    }
    assert studies[GLIOMA].metadata == {"source": "brats23", "target_slices": "59 60 61"}
    assert studies[NORMAL].metadata == {"source": "open_bhb"}


def test_what_does_not_fit_is_named(root: Path) -> None:
    rows = [row(GLIOMA, "Glioma"), row(GLIOMA, "Glioma"), row("stroke/sub-0", "Stroke")]
    rows.append(row(NORMAL, "Normal") | {"Stroke": 1})
    (root / "pub_brain_5.csv").unlink()
    write_table(root / "pub_brain_5.csv", rows)
    studies, skips = read_all(root)
    assert list(studies) == [GLIOMA, NORMAL]
    assert set(studies[NORMAL].labels.values()) == {-1}
    assert "expected a single 1" in skips[NORMAL]
    assert skips[GLIOMA] == "listed more than once; the first row counts"
    assert skips["stroke/sub-0"] == "listed in the table, but its folder is not there"
    assert skips["nyu_mets"] == "1 of its folders stand in no row of the table"


def test_a_missing_source_is_told_once(root: Path) -> None:
    (root / "stroke").rename(root / "elsewhere")
    _, skips = read_all(root)
    assert "no folder" in skips["stroke"] and STROKE not in skips


def test_chosen_sources_and_additions(root: Path) -> None:
    write_table(root / "splits.csv", [{"study": GLIOMA, "split": "train"}])
    studies, skips = read_all(root, sources=["brats23"], splits=str(root / "splits.csv"))
    assert {key: study.split for key, study in studies.items()} == {
        GLIOMA: "train",
        MENINGIOMA: "test",
    }
    assert not skips


def test_paths_in_the_table_lead_nowhere(root: Path) -> None:
    (root / "pub_brain_5.csv").unlink()
    write_table(root / "pub_brain_5.csv", [row("stroke/../../secret", "Stroke")])
    studies, skips = read_all(root)
    assert not studies
    assert skips["stroke/../../secret"] == "listed in the table, but its folder is not there"
    assert study_key("stroke/sub-1/") == "stroke/sub-1"


def test_a_root_without_the_table_says_where_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"Zch0414/hlip.*medvlp.phantom pub_brain_5"):
        read_all(tmp_path)
    with pytest.raises(ValueError, match="sources is"):
        PubBrain5(str(tmp_path), sources=["ixi"])
