"""Folders as they come from scanners and archives, made of files that come with pydicom."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.uid import CTImageStorage, generate_uid

from medvlp.data.readers.dicom import dicom_index
from medvlp.data.readers.registry import ReadError, read


def bundled(name: str) -> Path:
    """Find a file that is installed with pydicom; nothing is fetched."""
    path = get_testdata_file(name, download=False)
    assert isinstance(path, str), f"pydicom came without {name}"
    return Path(path)


@pytest.fixture
def disc(tmp_path: Path) -> Path:
    """Copy a disc of an archive: a DICOMDIR, names without suffix, three patients, 13 series."""
    source = bundled("DICOMDIR").parent
    shutil.copy(source / "DICOMDIR", tmp_path)
    for name in ("77654033", "98892001", "98892003"):
        shutil.copytree(source / name, tmp_path / name)
    (tmp_path / "README.TXT").write_text("Insert the disc into a reader.")
    return tmp_path


def stacked(name: str, folder: Path, count: int = 4) -> Path:
    """Write a single-slice file that often, at heights 3 mm apart, still compressed."""
    folder.mkdir()
    for index in range(count):
        data: Any = dcmread(bundled(name))
        data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = generate_uid()
        data.SeriesInstanceUID, data.StudyInstanceUID = "1.2.3", "1.2"
        if data.get("Modality") not in ("CT", "MR"):
            data.Modality, data.SOPClassUID, data.ImageType = "CT", CTImageStorage, ["ORIGINAL"]
        data.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        data.ImagePositionPatient = [0, 0, 3 * index]
        data.PixelSpacing = data.get("PixelSpacing") or [1, 1]
        data.save_as(folder / f"IM{index:06d}")
    return folder


def test_a_disc_of_many_series_gives_the_best_scan_and_names_the_others(disc: Path) -> None:
    series = dicom_index(disc)
    assert len(series) == 13 and not any("DICOMDIR" in str(s.files) for s in series)
    assert sum(facts.kind == "localizer" for facts in series) == 1
    patient = disc / "98892001"
    with pytest.warns(UserWarning, match=r"holds 2 series; taken: series 5 .*5 images.*'Scout'"):
        scan = read(patient)
    assert scan.array.shape == (5, 16, 16) and scan.modality == "CT"
    assert scan.spacing_mm == pytest.approx((2.5, 0.488281, 0.488281))
    np.testing.assert_array_equal(read(patient / "CT5N").array, scan.array)
    chosen = next(facts for facts in series if facts.series_uid == scan.provenance["series_uid"])
    np.testing.assert_array_equal(read(disc, chosen.files).array, scan.array)


@pytest.mark.filterwarnings("ignore:.*holds 3 series")
@pytest.mark.parametrize(
    ("folder", "message"),
    [
        ("98892001/CT2N", "only series 4 'Scout' .CT, localizer, 2 images."),
        ("77654033/CT2", r"161 slices are missing.*there are 202\.5 mm"),
        ("98892003/MR700", "mixed orientation: 6 of 7 images"),
        ("98892003/MR1", "only 1 slice"),
    ],
)
@pytest.mark.parametrize("irregular", ["refuse", "correct"])
def test_parts_of_the_disc_that_are_no_volume(
    disc: Path, folder: str, message: str, irregular: Any
) -> None:
    with pytest.raises(ReadError, match=message):
        read(disc / folder, irregular=irregular)


def test_a_disc_whose_images_were_stripped(tmp_path: Path) -> None:
    shutil.copytree(bundled("DICOMDIR").parent / "TINY_ALPHA", tmp_path / "disc")
    with pytest.raises(ReadError, match="CT, object without an image, 50 images"):
        read(tmp_path / "disc")


@pytest.mark.parametrize(
    "name",
    [
        "MR_small.dcm",
        "MR_small_implicit.dcm",
        "MR_small_bigendian.dcm",
        "MR_small_RLE.dcm",
        "MR_small_jp2klossless.dcm",
        "MR_small_jpeg_ls_lossless.dcm",
    ],
)
def test_every_lossless_syntax_gives_the_same_numbers(tmp_path: Path, name: str) -> None:
    scan = read(stacked(name, tmp_path / "s"))
    expected = dcmread(bundled("MR_small.dcm")).pixel_array
    assert scan.array.shape == (4, 64, 64) and scan.array.dtype == np.int16
    np.testing.assert_array_equal(scan.array, np.stack([expected] * 4))
    assert scan.spacing_mm == pytest.approx((3, 0.3125, 0.3125)) and scan.modality == "MR"


def test_lossy_jpeg_2000_ct(tmp_path: Path) -> None:
    scan = read(stacked("693_J2KI.dcm", tmp_path / "s"))
    assert scan.array.shape == (4, 512, 512) and scan.array.dtype == np.int16
    hu = scan.array[0] * scan.rescale.slope + scan.rescale.intercept
    # padding of -2000 is blurred by the compression: it stays as it is, below any window
    assert np.median(hu[:20]) == pytest.approx(-3024, abs=20)
    assert 0 < np.median(hu[200:300, 200:300]) < 120  # tissue in the middle


def test_lossy_jpeg_ls(tmp_path: Path) -> None:
    scan = read(stacked("JPEGLSNearLossless_16.dcm", tmp_path / "s"))
    expected = dcmread(bundled("JPEGLSNearLossless_16.dcm")).pixel_array
    np.testing.assert_array_equal(scan.array[3], expected)


def test_a_kind_of_jpeg_without_decoder_is_not_called_damage_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = stacked("JPEG-lossy.dcm", tmp_path / "s")  # 12 bits, for which some have a decoder

    def fail(*args: object, **options: object) -> None:
        raise RuntimeError("gdcm: does not support\n  12-bit precision")

    monkeypatch.setattr("pydicom.pixels.utils.pixel_array", fail)
    with pytest.raises(ReadError, match=r"kind of JPEG Extended .*support 12-bit.*pylibjpeg-lib"):
        read(folder)
