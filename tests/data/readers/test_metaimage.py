from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from medvlp.data.readers.registry import ReadError, read

from .test_dicom import SHARED, real


def ramp(dtype: str = "int16") -> np.ndarray:
    return np.arange(3 * 4 * 5).reshape(3, 4, 5).astype(dtype)


def save(path: Path, array: np.ndarray | None = None, *, compress: bool = False) -> Path:
    image = sitk.GetImageFromArray(ramp() if array is None else array)
    image.SetSpacing((0.7, 0.8, 2.5))
    image.SetOrigin((-10.0, -20.0, 5.0))
    image.SetDirection((1, 0, 0, 0, 0.8, -0.6, 0, 0.6, 0.8))
    sitk.WriteImage(image, str(path), compress)
    return path


@pytest.mark.parametrize("name", ["x.nrrd", "x.nhdr", "x.mha", "näme with space.mhd", "x.MHA"])
@pytest.mark.parametrize("compress", [False, True])
def test_equals_the_nifti_of_the_same_image(tmp_path: Path, name: str, compress: bool) -> None:
    scan = read(save(tmp_path / name.lower(), compress=compress).rename(tmp_path / name))
    expected = nib.load(save(tmp_path / "same.nii"), mmap=False)
    np.testing.assert_array_equal(scan.array, ramp())
    assert scan.array.dtype == np.int16
    np.testing.assert_allclose(scan.affine, expected.affine, atol=1e-5)
    assert scan.spacing_mm == pytest.approx((2.5, 0.8, 0.7)) and scan.orientation == "SPL"


def change(path: Path, old: str, new: str) -> Path:
    data = path.read_bytes()
    assert data.count(old.encode()) == 1, data[:600]
    path.write_bytes(data.replace(old.encode(), new.encode()))
    return path


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("x.nhdr", "data file: x.raw", "data file: ../x.raw", "outside its folder"),
        ("x.nhdr", "data file: x.raw", "data file: /etc/passwd", "outside its folder"),
        ("x.nhdr", "data file: x.raw", "data file: link/y.raw", "outside its folder"),
        ("x.nhdr", "data file: x.raw", "data file: gone.raw", "is not beside it"),
        ("x.nhdr", "data file: x.raw", "data file: LIST", "list of files"),
        ("x.nhdr", "data file: x.raw", "data file: x%03d.raw 1 9 1", "list of files"),
        ("x.mhd", "ElementDataFile = x.raw", "ElementDataFile = ../x.raw", "outside its folder"),
        ("x.mhd", "ElementDataFile = x.raw", "ElementDataFile = ", "no ElementDataFile"),
        ("x.mha", "DimSize = 5 4 3", "DimSize = 9000 9000 900", "more than x.mha of"),
        ("x.mha", "DimSize = 5 4 3", "DimSize = 5 4", "length 5 4, expected one 3D"),
        ("x.mha", "DimSize = 5 4 3", "DimSize = 5 -4 3", "length 5 -4 3, expected"),
        ("x.mha", "MET_SHORT", "MET_OTHER", "unknown voxel type 'MET_OTHER'"),
        ("x.mha", "NDims = 3", "NDims = 3\nElementNumberOfChannels = 3", "several channels"),
        ("x.nrrd", "sizes: 5 4 3", "sizes: 5 4 999", "more than x.nrrd of"),
        ("x.nrrd", "NRRD0004", "GARBAGE!", "not an NRRD file"),
        ("x.nrrd", "(0,0,2", "(0,1.9,2", r"meet at \d+\.\d degrees, as after a gantry tilt"),
        ("x.nrrd", "(0,0,2", "(0,0,nan,2", "damaged file|singular or not finite"),
    ],
)
def test_a_header_that_cannot_be_true(
    tmp_path: Path, name: str, old: str, new: str, message: str
) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    for place in (tmp_path / "x.raw", tmp_path / "y.raw"):
        place.write_bytes(bytes(1000))
    (folder / "link").symlink_to(tmp_path)
    image = sitk.GetImageFromArray(ramp())
    image.SetSpacing((0.7, 0.8, 2.5))
    sitk.WriteImage(image, str(folder / name))
    with pytest.raises(ReadError, match=message) as caught:
        read(change(folder / name, old, new))
    assert str(folder / name) in str(caught.value)


@pytest.mark.parametrize("name", ["x.nrrd", "x.mha"])
@pytest.mark.parametrize("compress", [False, True])
def test_truncated(tmp_path: Path, name: str, compress: bool) -> None:
    noise = np.random.default_rng(0).integers(0, 9999, (9, 20, 20)).astype(np.int16)
    path = save(tmp_path / name, noise, compress=compress)
    path.write_bytes(path.read_bytes()[:-3000])
    with pytest.raises(ReadError, match=rf"{name}.*(damaged|truncated)"):
        read(path)
    path.write_bytes(b"")
    with pytest.raises(ReadError, match="0 bytes"):
        read(path)


def test_without_a_patient_space_the_geometry_is_unknown(tmp_path: Path) -> None:
    header = "NRRD0004\ntype: short\ndimension: 3\nsizes: 5 4 3\nencoding: raw\nendian: little\n\n"
    path = tmp_path / "x.nrrd"
    path.write_bytes(header.encode() + ramp().tobytes())
    scan = read(path)
    assert not scan.has_geometry
    np.testing.assert_array_equal(scan.array, ramp())


def test_nan_voxels_are_counted(tmp_path: Path) -> None:
    array = ramp("float32")
    array[0, 0, :2] = np.nan
    with pytest.raises(ReadError, match="2 of 60 voxels are NaN"):
        read(save(tmp_path / "x.mha", array))


@real
def test_real_scan_and_its_mask_share_a_grid() -> None:
    folder = SHARED / "brain_mr_tumour"
    scan, mask = read(folder / "brain1_image.nrrd"), read(folder / "brain1_label.nrrd")
    assert scan.array.shape == mask.array.shape == (25, 256, 256)
    np.testing.assert_allclose(scan.affine, mask.affine)
    assert scan.spacing_mm == pytest.approx((6.5, 0.78125, 0.78125)) and scan.orientation == "SAL"
