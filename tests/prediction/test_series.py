"""Which scans are used, which are left out, and why."""

from pathlib import Path

import numpy as np
import pytest
from pydicom.uid import generate_uid

from medvlp.prediction.series import Wanted, choose, find_series
from tests.data.readers.dicom_writer import set_all, voxels, write_series

CT = Wanted("CT", 8)


@pytest.fixture
def study(tmp_path) -> Path:
    """A folder of an original, a derived, a localizer, an MR, a short series and a dose report."""
    folder = tmp_path / "study"
    kinds = {
        "lung": (set_all(SeriesNumber=2), 10),
        "mip": (set_all(SeriesNumber=3, ImageType=["DERIVED", "SECONDARY", "AXIAL"]), 12),
        "scout": (set_all(SeriesNumber=1, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]), 9),
        "other": (set_all(SeriesNumber=4, Modality="MR"), 9),
        "short": (set_all(SeriesNumber=5), 3),
        "ultrasound": (set_all(SeriesNumber=6, Modality="US"), 9),
        "report": (set_all(SeriesNumber=7, Modality="SR"), 1),
    }
    for name, (change, count) in kinds.items():
        array = voxels(count)
        write_series(folder / name, array, change=change, prefix=name, series=generate_uid())
    return folder


def reasons(paths: list[Path], wanted: Wanted) -> dict[int, str]:
    return {one.number: one.left_out for one in choose(find_series(paths), wanted)}


def test_every_series_is_accounted_for(study):
    assert reasons([study], CT) == {
        1: "localizer",
        2: "",
        3: "derived from other series",
        4: "MR, and the model is for CT",
        5: "too few slices: 3, at least 8 are wanted",
        6: "neither CT nor MR: US",
        7: "structured report, such as a dose report",
    }


def test_derived_series_are_taken_if_wanted_or_alone(study):
    assert reasons([study], Wanted("CT", 8, derived=True))[3] == ""
    assert reasons([study / "mip"], CT) == {3: ""}


def test_a_model_for_any_modality_takes_ct_and_mr(study):
    found = reasons([study], Wanted(None, 8))
    assert not found[2] and not found[4] and found[6]


def test_several_patients_in_one_folder_are_refused_without_naming_them(tmp_path):
    for number, patient in enumerate(["4711", "4712"]):
        change = set_all(PatientID=patient, SeriesNumber=number)
        write_series(tmp_path / str(number), change=change, series=generate_uid())
    with pytest.raises(ValueError, match=r"the files are of 2 patients \(Patient ID\)") as error:
        find_series([tmp_path])
    assert "471" not in str(error.value)


def test_a_folder_of_other_formats_and_a_single_file(tmp_path):
    for name in ("a.nii.gz", "b.nii", "notes.txt"):
        (tmp_path / name).write_bytes(bytes(400))
    assert [one.label for one in find_series([tmp_path])] == ["a.nii.gz", "b.nii"]
    assert [one.label for one in find_series([tmp_path / "b.nii"])] == ["b.nii"]
    series = write_series(tmp_path / "ct", np.zeros((9, 8, 6), np.uint16) + 24)
    (one,) = find_series([sorted(series.iterdir())[0]])
    assert one.num_slices == 1 and choose([one], CT)[0].left_out.startswith("too few slices")


def test_empty_folders_and_missing_paths_are_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no scan: none of its 0 files is DICOM"):
        find_series([tmp_path / "empty"])
    with pytest.raises(FileNotFoundError, match="there is no scan at"):
        find_series([tmp_path / "absent"])
