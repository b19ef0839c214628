import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import (
    RTStructureSetStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)

from medvlp.data.readers.dicom import dicom_index, read_dicom
from medvlp.data.readers.nifti import read_nifti
from medvlp.data.readers.registry import ReadError, read
from medvlp.data.scan import reorient

from .dicom_writer import add_pixels, header, set_all, voxels, write_enhanced, write_series

SHARED = Path(os.environ.get("MEDVLP_SHARED_DATA", Path(__file__).parents[4] / "shared" / "data"))
real = pytest.mark.skipif(not SHARED.is_dir(), reason="no real data beside the repository")


def test_slices_are_sorted_by_position(tmp_path: Path) -> None:
    scan = read(write_series(tmp_path / "näme with spaces"))
    np.testing.assert_array_equal(scan.array, voxels())
    assert scan.array.dtype == np.uint16 and scan.modality == "CT"
    assert (scan.rescale.slope, scan.rescale.intercept) == (1.0, -1024.0)
    assert scan.spacing_mm == pytest.approx((2.5, 0.8, 0.7)) and scan.orientation == "SPL"
    expected = [[-0.7, 0, 0, 10], [0, -0.8, 0, 20], [0, 0, 2.5, 5], [0, 0, 0, 1]]
    np.testing.assert_allclose(scan.affine, expected, atol=1e-9)


def test_nothing_tells_who_the_patient_is(tmp_path: Path) -> None:
    scan = read(write_series(tmp_path / "s"))
    told = repr(scan.provenance) + repr(dicom_index(tmp_path))
    assert not any(secret in told for secret in ("Doe", "1970", "4711"))


def test_enhanced_multi_frame_equals_the_classic_series(tmp_path: Path) -> None:
    classic = read(write_series(tmp_path / "s"))
    enhanced = read(write_enhanced(tmp_path / "no_suffix"))
    np.testing.assert_array_equal(enhanced.array, classic.array)
    np.testing.assert_allclose(enhanced.affine, classic.affine, atol=1e-9)
    assert enhanced.rescale == classic.rescale


def test_coronal_slices_keep_their_place_in_the_world(tmp_path: Path) -> None:
    turned = set_all(ImageOrientationPatient=[1, 0, 0, 0, 0, -1])
    scan = read(write_series(tmp_path / "s", step=(0.0, 2.5, 0.0), change=turned))
    assert scan.orientation == "PIL"
    np.testing.assert_array_equal(scan.array, voxels())  # the normal points to the back
    corner = scan.affine @ [2, 3, 4, 1]
    np.testing.assert_allclose(corner[:3], [10 - 1.4, 20 - 4 * 2.5, 5 - 3 * 0.8], atol=1e-9)


def test_compressed_and_signed_pixels(tmp_path: Path) -> None:
    array = voxels().astype(np.int16) - 1024
    scan = read(write_series(tmp_path / "s", array, compress=True))
    np.testing.assert_array_equal(scan.array, array)
    assert scan.array.dtype == np.int16


def test_copies_are_dropped_with_a_count(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "s")
    shutil.copy(folder / "s001.dcm", folder / "copy.dcm")
    with pytest.warns(UserWarning, match="1 copies of slices"):
        np.testing.assert_array_equal(read(folder).array, voxels())


def test_a_copy_that_was_altered_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ReadError, match="same SOP Instance UID and different positions"):
        read(write_series(tmp_path / "s", change=set_all(SOPInstanceUID="1.9")))


def test_the_scan_with_the_most_images_is_taken(tmp_path: Path) -> None:
    write_series(tmp_path / "a", voxels(3), series="1.1", change=set_all(SeriesNumber=7))
    write_series(tmp_path / "b", voxels(5), series="1.2", change=set_all(SeriesNumber=2))
    derived = set_all(ImageType=["DERIVED", "SECONDARY"], SeriesNumber=3)
    write_series(tmp_path / "c", voxels(9), series="1.3", change=derived)
    localizer = set_all(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"], SeriesNumber=4)
    write_series(tmp_path / "d", voxels(11), series="1.4", change=localizer)
    capture = set_all(SOPClassUID=SecondaryCaptureImageStorage, SeriesNumber=5)
    write_series(tmp_path / "e", voxels(12), series="1.5", change=capture)
    (tmp_path / "readme.txt").write_text("not DICOM")
    with pytest.warns(UserWarning, match="5 series; taken: series 2") as caught:
        scan = read(tmp_path)
    assert len(caught) == 1 and len(scan.provenance["series_found"]) == 5
    np.testing.assert_array_equal(scan.array, voxels(5))
    series = {facts.series_uid: facts for facts in dicom_index(tmp_path)}
    assert [facts.kind for facts in series.values()] == [
        "original", "derived", "localizer", "secondary capture", "original"
    ]  # fmt: skip
    assert series["1.1"].num_images == 3 and series["1.1"].files[0].name == "s001.dcm"
    np.testing.assert_array_equal(read(tmp_path, series["1.1"].files).array, voxels(3))
    with pytest.raises(ReadError, match="no image of a scan of modality MR, only series 2"):
        read_dicom(tmp_path, modality="MR")


def test_slices_with_rules_of_their_own(tmp_path: Path) -> None:
    change = set_all(Modality="MR", RescaleSlope=lambda index: 1 + index, RescaleIntercept=-1)
    scan = read(write_series(tmp_path / "mr", change=change))
    expected = voxels() * np.arange(1, 6)[:, None, None] - 1.0
    np.testing.assert_array_equal(scan.array, expected.astype(np.float32))
    assert scan.modality == "MR" and scan.rescale.is_identity
    with pytest.raises(ReadError, match="5 different rules to HU"):
        read(write_series(tmp_path / "ct", change=set_all(RescaleSlope=lambda index: 1 + index)))


def test_padding_and_inverted_grey(tmp_path: Path) -> None:
    array = voxels().astype(np.int16)
    array[:, 0] = -2000
    scan = read(write_series(tmp_path / "ct", array, change=set_all(PixelPaddingValue=-2000)))
    assert scan.array.min() == array[array > -2000].min()
    np.testing.assert_array_equal(scan.array[:, 1:], array[:, 1:])
    inverted = set_all(Modality="MR", PhotometricInterpretation="MONOCHROME1")
    scan = read(write_series(tmp_path / "mr", change=inverted))
    np.testing.assert_array_equal(scan.array, voxels().min() + voxels().max() - voxels())


def drop(*indices: int) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        for index in indices:
            (folder / f"s{index:03d}.dcm").unlink()

    return change


def write_object(sop_class: str, modality: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        for path in folder.iterdir():
            path.unlink()
        data: Any = header(sop_class)
        data.Modality = modality
        data.save_as(folder / "other")

    return change


def truncate(folder: Path) -> None:
    path = folder / "s003.dcm"
    path.write_bytes(path.read_bytes()[:-20])


def loop(folder: Path) -> None:
    (folder / "again").symlink_to(folder, target_is_directory=True)


@pytest.mark.parametrize(
    ("change", "spoil", "message"),
    [
        (set_all(), drop(3), r"1 slices are missing.*2\.5 mm apart.*s004.*s002.*\(at 7\.5 and 12"),
        (set_all(), drop(2, 3), r"2 slices are missing.*there are 7\.5 mm"),
        (
            set_all(ImagePositionPatient=lambda i: [0, 0, i * 2 + (i == 2)]),
            drop(),
            "uneven spacing",
        ),
        (set_all(ImagePositionPatient=lambda i: [0, 0, i // 2]), drop(), "several phases"),
        (
            set_all(ImageOrientationPatient=lambda i: [1, 0, 0, 0, i != 1, i == 1]),
            drop(),
            "mixed orientation: 1 of 5",
        ),
        (set_all(PixelSpacing=lambda i: [0.8, 0.7 + (i == 1)]), drop(), "mixed pixel spacing"),
        (set_all(PixelSpacing=[0.0, 0.7]), drop(), "PixelSpacing is .0.0, 0.7., expected mm above"),
        (set_all(ImageOrientationPatient=[1, 0, 0, 1, 0, 0]), drop(), "unit vectors at a right"),
        (set_all(ImagePositionPatient=None), drop(), "ImagePositionPatient is missing"),
        (set_all(RescaleSlope=0), drop(), "RescaleSlope is 0"),
        (set_all(SamplesPerPixel=3), drop(), "colour"),
        (set_all(BitsAllocated=12), drop(), "12 bits per voxel"),
        (set_all(Rows=5000), drop(), "truncated pixel data: the header claims"),
        (set_all(), drop(1, 2, 3, 4), "only 1 slice"),
        (set_all(), drop(1, 2, 3, 4, 5), "no DICOM image in the folder"),
        (set_all(), truncate, r"s003\.dcm.*truncated pixel data"),
        (set_all(), loop, "leads back to a folder above"),
        (set_all(), lambda f: (f / "x").symlink_to(f / "gone"), "a link that leads nowhere"),
        (set_all(), lambda f: (f / "x.dcm").touch(), "0 bytes"),
        (set_all(), lambda f: (f / "x.dcm").write_bytes(b"GARBAGE" * 99), "not a DICOM file"),
        (set_all(), lambda f: (f / "x").write_bytes(bytes(128) + b"DICM\2"), "x: damaged DICOM"),
        (set_all(), write_object(SegmentationStorage, "SEG"), "only series 1 .SEG, segmentation"),
        (set_all(), write_object(RTStructureSetStorage, "RTSTRUCT"), "RTSTRUCT, set of contours"),
    ],
)
def test_what_is_no_sound_series_is_refused(
    tmp_path: Path,
    change: Callable[[Dataset, int], None],
    spoil: Callable[[Path], None],
    message: str,
) -> None:
    folder = write_series(tmp_path / "series", change=change)
    spoil(folder)
    with pytest.raises(ReadError, match=message) as caught:
        read(folder)
    assert str(folder) in str(caught.value)


def test_mixed_size(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "s")
    write_series(folder, voxels(1, 4, 4), step=(0, 0, 0), prefix="t")
    with pytest.raises(ReadError, match="mixed size: 5 of 8 x 6, 1 of 4 x 4"):
        read(folder)


def test_a_syntax_without_decoder_names_it_and_the_extra(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "s", compress=True)
    for path in folder.iterdir():  # the same length, so that nothing else moves
        old, new = b"1.2.840.10008.1.2.5\0", b"1.2.840.10008.1.2.9\0"
        path.write_bytes(path.read_bytes().replace(old, new))
    with pytest.raises(ReadError, match=r"no decoder.*1\.2\.840\.10008\.1\.2\.9.*medvlp\[dicom\]"):
        read(folder)


def test_films_and_single_images_say_what_they_lack(tmp_path: Path) -> None:
    data: Any = header()
    add_pixels(data, voxels())
    data.NumberOfFrames = 5
    data.save_as(tmp_path / "film.dcm")
    with pytest.raises(ReadError, match=r"film\.dcm: 5 frames without positions"):
        read(tmp_path / "film.dcm")


@real
def test_real_series_lies_where_its_mask_does() -> None:
    folder = SHARED / "dicom_ct_body_series"
    scan, mask = read(folder / "dicom"), read_nifti(folder / "example_seg_dicom.nii.gz")
    labels, axes = reorient(mask.array, mask.orientation, scan.orientation)
    assert labels.shape == scan.array.shape == (20, 512, 512) and axes == (0, 1, 2)
    np.testing.assert_allclose(np.abs(scan.affine[:3, :3]), np.abs(mask.affine[:3, :3]))
    values = scan.array * scan.rescale.slope + scan.rescale.intercept
    ids = json.loads((SHARED / "ct_body_totalseg" / "labels.json").read_text())["total"]
    organs = {name: int(key) for key, name in ids.items()}
    assert values[labels == organs["spleen"]].mean() == pytest.approx(80, abs=1)
    assert values[labels == organs["liver"]].mean() == pytest.approx(89, abs=1)


@real
def test_real_series_beside_a_segmentation_object() -> None:
    with pytest.warns(UserWarning, match="taken: series 2"):
        scan = read(SHARED / "dicom_ct_liver_seg")
    assert scan.array.shape == (3, 512, 512) and scan.array.dtype == np.int16
    assert scan.spacing_mm == pytest.approx((1.0, 0.810547, 0.810547))
    assert scan.array.min() == 0  # padding of -2000 lies outside the field of view
