"""A scan as its data set states it: companions, corrections, and when it counts as changed."""

import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medvlp.data.ct_recipe import CTRecipe
from medvlp.data.engine import LocalEngine
from medvlp.data.folder import Folder
from medvlp.data.preparation import prepare_dataset
from medvlp.data.read_scan import fingerprint, read_scan
from medvlp.data.records import ScanRecord

from .conftest import write_table
from .readers.dicom_writer import write_series


def write_image(path: Path) -> Path:
    voxels = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)
    nib.save(nib.Nifti1Image(voxels, np.diag([-1.0, -1.5, 2.0, 1.0])), path)
    return path


def test_a_mask_that_is_a_bare_array_lies_where_its_scan_lies(tmp_path: Path) -> None:
    image = write_image(tmp_path / "x.nii.gz")
    np.save(tmp_path / "mask.npy", np.ones((6, 5, 4), np.uint8))
    record = ScanRecord("x", image, companions={"anatomy_mask": tmp_path / "mask.npy"})
    scan = read_scan(record, ["anatomy_mask"])
    mask = scan.companions["anatomy_mask"]
    np.testing.assert_array_equal(mask.affine, scan.affine)
    assert mask.orientation == scan.orientation == "SPL"
    assert mask.spacing_mm == scan.spacing_mm == (2.0, 1.5, 1.0)
    assert mask.array.sum() == 6 * 5 * 4 and mask.array.dtype == np.uint8


def test_a_mask_of_a_bare_scan_lies_where_the_data_set_states(tmp_path: Path) -> None:
    for name in ("x", "mask"):
        np.save(tmp_path / f"{name}.npy", np.ones((6, 5, 4), np.int16))
    record = ScanRecord(
        "x",
        tmp_path / "x.npy",
        spacing_mm=(3.0, 2.0, 1.0),
        orientation="IPR",
        companions={"anatomy_mask": tmp_path / "mask.npy"},
    )
    mask = read_scan(record, ["anatomy_mask"]).companions["anatomy_mask"]
    assert mask.has_geometry and mask.orientation == "IPR" and mask.spacing_mm == (3.0, 2.0, 1.0)


def test_a_mask_that_could_lie_anywhere_is_refused(tmp_path: Path) -> None:
    image = write_image(tmp_path / "x.nii.gz")
    np.save(tmp_path / "mask.npy", np.ones((4, 5, 6), np.uint8))
    record = ScanRecord("x", image, companions={"anatomy_mask": tmp_path / "mask.npy"})
    message = r"mask\.npy: anatomy_mask is a bare array.*\(4, 5, 6\).*x\.nii\.gz has \(6, 5, 4\)"
    with pytest.raises(ValueError, match=message):
        read_scan(record, ["anatomy_mask"])


def test_what_a_record_allows_is_part_of_its_fingerprint(tmp_path: Path) -> None:
    path = tmp_path / "scan.nii.gz"
    path.touch()
    prints = {fingerprint(ScanRecord("a", path, irregular=i)) for i in ("refuse", "correct")}
    assert len(prints) == 2


def test_a_slice_that_changes_in_a_folder_below_is_noticed(tmp_path: Path) -> None:
    record = ScanRecord("a", tmp_path)
    write_series(tmp_path / "study" / "series")
    before = fingerprint(record)
    path = tmp_path / "study" / "series" / "s001.dcm"
    os.utime(path, ns=(2**61, 2**61))
    assert fingerprint(record) != before


def test_the_manifest_says_what_was_corrected(tmp_path: Path) -> None:
    write_series(tmp_path / "straight")
    write_series(tmp_path / "tilted", step=(0.0, 1.0, 2.5))
    rows: list[dict[str, object]] = [
        {"study_id": name, "path": name} for name in ("straight", "tilted")
    ]
    write_table(tmp_path / "studies.csv", rows)
    recipe = CTRecipe((4, 4, 4), (3.0, 1.0, 1.0), window_hu=(-1150.0, 350.0), mean=0.449, std=0.226)
    with pytest.warns(UserWarning, match="were shifted straight"):
        manifest = prepare_dataset(
            Folder(str(tmp_path / "studies.csv"), str(tmp_path), irregular="correct"),
            recipe,
            cache_dir=tmp_path / "cache",
            engine=LocalEngine(0),
        )
    assert manifest[0]["scans"][0]["corrections"] == []
    assert manifest[1]["scans"][0]["corrections"] == [
        "5 slices with a gantry tilt of 21.8 degrees were shifted straight"
    ]
