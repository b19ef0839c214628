import csv
from pathlib import Path

import numpy as np
import pytest

from medvlp.data.readers.registry import read
from medvlp.data.records import StudyRecord
from medvlp.data.rsna import LABEL_NAMES, RSNA
from medvlp.data.rsna_index import index_instances
from medvlp.phantom.head_dicom import PixelStyle, SeriesHeader, SliceFile, write_series
from medvlp.phantom.head_scan import lattice

from .conftest import write_table

ROW_NAMES = ("epidural", "intraparenchymal", "intraventricular", "subarachnoid", "subdural", "any")
WHERE = lattice("axial", (20.0, 16.0, 12.0), (5.0, 2.0, 2.0))


def write_one(
    root: Path, number: int, *, patient: str = "ID_p0", style: PixelStyle | None = None
) -> list[str]:
    """Write a series of four slices, file names in no order; return names from feet to head."""
    folder = root / "stage_2_train"
    folder.mkdir(parents=True, exist_ok=True)
    hu = np.full(WHERE.size, -1000.0, np.float32)
    hu[:, 2:6, 1:5] = np.arange(4, dtype=np.float32)[:, None, None] * 10 + number
    names = [f"ID_{(7 * index + 3) % 4}00{number}" for index in range(4)]
    header = SeriesHeader(patient, f"ID_study{number}", f"ID_series{number}", style or PixelStyle())
    slices = [SliceFile(f"{name}.dcm", name, index) for index, name in enumerate(names)]
    write_series(folder, hu, WHERE, header, slices)
    return names


def write_labels(root: Path, positive: dict[str, tuple[str, ...]], extra: str = "") -> None:
    with (root / "stage_2_train.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["ID", "Label"])
        for image, kinds in positive.items():
            kinds = (*kinds, "any") if kinds else kinds
            writer.writerows([f"{image}_{kind}", int(kind in kinds)] for kind in ROW_NAMES)
        file.write(extra)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    first, second = write_one(tmp_path, 0), write_one(tmp_path, 1, patient="ID_p1")
    labels: dict[str, tuple[str, ...]] = dict.fromkeys(first + second, ())
    labels[second[1]] = ("subdural", "epidural")
    write_labels(tmp_path, labels)
    return tmp_path


def read_all(root: Path, **options: object) -> tuple[list[StudyRecord], dict[str, str]]:
    source = RSNA(str(root), num_workers=0, **options)
    studies = list(source.studies())
    return studies, {skip.id: skip.reason for skip in source.skips}


def test_loose_slices_become_series_with_the_labels_of_any_slice(root: Path) -> None:
    studies, skips = read_all(root)
    assert not skips
    assert [study.study_id for study in studies] == ["ID_study0", "ID_study1"]
    assert studies[0].labels == dict.fromkeys(LABEL_NAMES, 0)
    positive = [name for name, value in studies[1].labels.items() if value == 1]
    assert positive == ["Any", "Subdural", "Epidural"]
    assert {study.split for study in studies} == {"test"}
    assert [scan.scan_id for scan in studies[1].scans] == ["ID_series1"]


def test_a_series_is_read_in_the_order_of_its_positions(root: Path) -> None:
    studies, _ = read_all(root)
    record = studies[1].scans[0]
    scan = read(record.path, record.files)
    assert scan.orientation == "SPL" and scan.array.shape == WHERE.size
    assert np.allclose(scan.affine, WHERE.affine, atol=1e-4)
    hu = scan.array[:, 3, 3] * scan.rescale.slope + scan.rescale.intercept
    assert hu.tolist() == [1.0, 11.0, 21.0, 31.0]


def test_patients_are_hashed(root: Path) -> None:
    studies, _ = read_all(root)
    patients = {study.patient_id for study in studies}
    assert len(patients) == 2 and not any("ID_p" in patient for patient in patients)


def test_the_index_is_written_once_and_read_again(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = tmp_path / "somewhere" / "index.csv"
    before, _ = read_all(root, index=str(index))
    assert index.is_file()
    monkeypatch.setattr("medvlp.data.rsna_index.read_instance", None)  # headers are not read again
    after, _ = read_all(root, index=str(index))
    assert after == before
    (root / "stage_2_train" / "ID_0000.dcm").unlink()
    with pytest.raises(ValueError, match=r"made of other files: 1 differ.*ID_0000; delete it"):
        read_all(root, index=str(index))


def test_a_damaged_index_is_refused(root: Path, tmp_path: Path) -> None:
    index = tmp_path / "index.csv"
    instances = index_instances(root / "stage_2_train", index, num_workers=0)
    row = instances[0]._asdict() | {"height_mm": "high"}
    write_table(index, [row])
    with pytest.raises(ValueError, match="is damaged"):
        index_instances(root / "stage_2_train", index)


def test_repeated_and_broken_rows_are_counted(root: Path) -> None:
    labels = {"ID_0000": ("subdural",), "ID_0000x": ()}
    names = [path.stem for path in (root / "stage_2_train").glob("*.dcm")]
    write_labels(
        root,
        dict.fromkeys(names, ()) | labels,
        "ID_0000_any,0\nID_1000_epidural,2\nnonsense\n",
    )
    source = RSNA(str(root), num_workers=0)
    list(source.studies())
    reasons = [skip.reason for skip in source.skips]
    assert "1 rows are repeated; the first counts" in reasons
    assert "8 rows are broken" in reasons  # six of a bad name, a label 2, a line of one cell


def test_missing_labels_are_unknown_unless_a_slice_is_positive(root: Path) -> None:
    studies, _ = read_all(root)
    names = [path.stem for path in studies[0].scans[0].files]
    write_labels(root, {names[0]: ("subdural",), "ID_fff": ()})
    studies, skips = read_all(root)
    assert studies[0].labels["Subdural"] == 1 and studies[0].labels["Epidural"] == -1
    assert set(studies[1].labels.values()) == {-1}
    assert "3 of its slices have no label" in skips["ID_series0"]
    assert skips["stage_2_train.csv"] == "1 slices of the table have no file"


def test_signed_pixels_under_an_unsigned_header_are_left_out(root: Path) -> None:
    write_one(root, 2, style=PixelStyle(intercept=0, wrapped=True))
    studies, skips = read_all(root)
    assert len(studies) == 2
    assert "signed 12-bit pixels that the header calls unsigned" in skips["ID_series2"]


def test_a_damaged_header_costs_a_file_and_is_told(root: Path) -> None:
    (root / "stage_2_train" / "ID_0000.dcm").write_bytes(b"not DICOM")
    studies, skips = read_all(root)
    assert [len(study.scans[0].files) for study in studies] == [3, 4]
    assert "damaged header" in skips["ID_0000.dcm"]


def test_an_empty_root_and_a_missing_table(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"kaggle.com.*medvlp.phantom rsna"):
        read_all(tmp_path)
    write_one(tmp_path, 0)
    with pytest.raises(FileNotFoundError, match="columns expected: ID, Label"):
        read_all(tmp_path)
    with pytest.raises(ValueError, match="label_names is"):
        RSNA(".", label_names=["any"])
