import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medvlp.data.readers import inflate
from medvlp.data.readers.nifti import read_nifti, read_nifti_channels, read_nifti_stack
from medvlp.data.readers.registry import ReadError, known_suffixes, read

Save = Callable[..., Path]


def ramp(dtype: str = "int16") -> np.ndarray:
    return np.arange(5 * 4 * 3).reshape(5, 4, 3).astype(dtype)


@pytest.mark.parametrize("dtype", ["int16", "uint8", "int32", "uint16", "float32", "float64"])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "name with späces.NII.GZ"])
def test_equals_nibabel(save_nifti: Save, dtype: str, name: str) -> None:
    path = save_nifti(ramp(dtype), name=name.lower()).rename(Path(save_nifti(ramp()).parent, name))
    scan = read(path)
    expected = nib.load(path, mmap=False) if name.islower() else None
    assert scan.array.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(scan.array, ramp(dtype).transpose(2, 1, 0))
    if expected is not None:
        np.testing.assert_array_equal(scan.array.T, np.asarray(expected.dataobj))
        np.testing.assert_array_equal(scan.affine, expected.affine)
    assert scan.spacing_mm == pytest.approx((2.5, 0.8, 0.7))
    assert scan.orientation == "SPL"


def test_big_endian_and_second_format_version(tmp_path: Path) -> None:
    header = nib.Nifti1Header(endianness=">")
    header.set_data_dtype(np.dtype(">i2"))
    nib.save(nib.Nifti1Image(ramp(), np.eye(4), header), tmp_path / "big.nii.gz")
    nib.save(nib.Nifti2Image(ramp(), np.eye(4)), tmp_path / "two.nii.gz")
    for name in ("big.nii.gz", "two.nii.gz"):
        np.testing.assert_array_equal(read(tmp_path / name).array.T, ramp())


def test_gzip_of_several_streams(save_nifti: Save) -> None:
    path = save_nifti(ramp())
    plain = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(plain[:400]) + gzip.compress(plain[400:]) + b"\0" * 8)
    np.testing.assert_array_equal(read_nifti(path).array.T, ramp())


def test_header_rescale_is_reported_not_applied(save_nifti: Save) -> None:
    path = save_nifti(ramp(), name="r.nii")
    data = bytearray(path.read_bytes())
    struct.pack_into("<ff", data, 112, 2.0, -1024.0)
    path.write_bytes(bytes(data))
    scan = read_nifti(path)
    assert (scan.rescale.slope, scan.rescale.intercept) == (2.0, -1024.0)
    np.testing.assert_array_equal(scan.array.T, ramp())


def corrupt(offset: int, format: str, *values: float) -> Callable[[bytes], bytes]:
    def change(data: bytes) -> bytes:
        changed = bytearray(data)
        struct.pack_into(format, changed, offset, *values)
        return bytes(changed)

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: b"", "0 bytes"),
        (lambda data: data[:200], "ends inside the header"),
        (lambda data: data[:-7], "truncated"),
        (lambda data: data + b"\0" * 7, "header claims"),
        (lambda data: b"GARBAGE" * 100, "not a NIfTI file"),
        (corrupt(40, "<4h", 3, 30000, 30000, 30000), "truncated or its header is wrong"),
        (corrupt(40, "<5h", 4, 5, 4, 1, 3), "one 3D volume"),
        (corrupt(40, "<3h", 2, 5, 4), "one 3D volume"),
        (corrupt(40, "<4h", 3, 5, -4, 3), "axes of length"),
        (corrupt(40, "<h", 99), "axes .wrong byte order"),
        (corrupt(70, "<h", 128), "one integer or real number"),
        (corrupt(70, "<h", 999), "unknown voxel type"),
        (corrupt(108, "<f", float("nan")), "voxels start at byte"),
        (corrupt(108, "<f", 8.0), "voxels start at byte"),
        (corrupt(280, "<f", float("nan")), "non-finite"),
        (corrupt(280, "<4f", 0, 0, 0, 0), "singular"),
        (corrupt(112, "<f", float("inf")), "not finite"),
        (corrupt(344, "<4s", b"ni1\0"), "separate file"),
    ],
)
@pytest.mark.parametrize("compressed", [True, False])
def test_damaged_files_say_what_is_wrong(
    save_nifti: Save, change: Callable[[bytes], bytes], message: str, compressed: bool
) -> None:
    path = save_nifti(ramp(), name="x.nii")
    data = change(path.read_bytes())
    path.write_bytes(gzip.compress(data) if compressed and data else data)
    with pytest.raises(ReadError, match=message) as caught:
        read_nifti(path)
    assert str(path) in str(caught.value)


def test_truncated_and_damaged_gzip(save_nifti: Save) -> None:
    noise = np.random.default_rng(0).integers(0, 1000, (20, 20, 20)).astype(np.int16)
    path = save_nifti(noise)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(ReadError, match=r"x\.nii\.gz.*truncated"):
        read_nifti(path)
    path.write_bytes(data[:5000] + bytes(8) + data[5008:])
    with pytest.raises(ReadError, match=r"x\.nii\.gz"):
        read_nifti(path)


def test_a_bomb_is_refused_before_it_is_inflated(save_nifti: Save) -> None:
    path = save_nifti(np.zeros((50, 50, 50), np.int16))
    plain = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(plain + bytes(50_000_000)))
    with pytest.raises(ReadError, match="at least 250,353"):
        read_nifti(path)


def test_nan_voxels_are_counted(save_nifti: Save) -> None:
    array = ramp("float32")
    array[0, 0, :2] = np.nan
    array[1, 1, 1] = np.inf
    with pytest.raises(ReadError, match="3 of 60 voxels are NaN or infinite"):
        read_nifti(save_nifti(array))


def test_unknown_suffix_names_the_known_ones(tmp_path: Path) -> None:
    (tmp_path / "x.jpg").touch()
    assert {".nii", ".nii.gz"} <= set(known_suffixes())
    with pytest.raises(ReadError, match=r"no reader.*\.nii"):
        read(tmp_path / "x.jpg")
    with pytest.raises(FileNotFoundError, match=r"x\.nii"):
        read(tmp_path / "x.nii")


def rotated(degrees: float, shear: float = 0.0) -> np.ndarray:
    """Spacing 0.7 x 0.8 x 2.5, turned about x; the slice axis tilted by `shear` degrees more."""
    turn, tilt = np.radians(degrees), np.radians(degrees + shear)
    affine = np.eye(4)
    affine[:3, 0] = 0.7, 0, 0
    affine[:3, 1] = 0, 0.8 * np.cos(turn), 0.8 * np.sin(turn)
    affine[:3, 2] = 0, -2.5 * np.sin(tilt), 2.5 * np.cos(tilt)
    return affine


def test_a_rotated_grid_is_read_and_a_sheared_one_refused(save_nifti: Save) -> None:
    scan = read_nifti(save_nifti(ramp(), rotated(18.5)))
    assert scan.spacing_mm == pytest.approx((2.5, 0.8, 0.7)) and scan.orientation == "SAR"
    assert read_nifti(save_nifti(ramp(), rotated(0.0, 0.5))).orientation == "SAR"  # rounding
    with pytest.raises(ReadError, match=r"meet at 71\.5 degrees, as after a gantry tilt"):
        read_nifti(save_nifti(ramp(), rotated(3.0, 18.5)))


def test_channels_are_scaled_and_come_one_by_one(save_nifti: Save) -> None:
    array = np.stack([ramp(), ramp() + 100], axis=-1)
    path = save_nifti(array, name="dwi.nii")
    data = bytearray(path.read_bytes())
    struct.pack_into("<ff", data, 112, 0.5, -3.0)
    path.write_bytes(bytes(data))
    expected = np.asarray(nib.load(path, mmap=False).get_fdata())
    scans = read_nifti_channels(path)
    assert len(scans) == 2 and scans[0].rescale.is_identity
    for channel, scan in enumerate(scans):
        np.testing.assert_array_equal(scan.array.T, expected[..., channel])
        assert scan.array.dtype == np.float64 and scan.spacing_mm == pytest.approx((2.5, 0.8, 0.7))
    with pytest.raises(ReadError, match="5 x 4 x 3 x 2, expected one 3D volume"):
        read_nifti(path)
    (one,) = read_nifti_channels(save_nifti(ramp()))
    np.testing.assert_array_equal(one.array.T, ramp())
    with pytest.raises(ReadError, match="one 3D volume or several channels of one"):
        read_nifti_channels(save_nifti(np.zeros((3, 3, 3, 2, 2), np.int16)))


def test_a_stack_keeps_its_channels_in_one_array(save_nifti: Save) -> None:
    two = read_nifti_stack(save_nifti(np.stack([ramp(), ramp() + 100], axis=-1)))
    assert two.array.shape == (2, 3, 4, 5) and two.array.dtype == np.int16
    np.testing.assert_array_equal(two.array[1].T, ramp() + 100)
    one = read_nifti_stack(save_nifti(ramp()[..., None]))
    assert one.array.shape == (3, 4, 5) and one.orientation == two.orientation


def test_a_missing_checksum_is_a_truncated_file(save_nifti: Save) -> None:
    path = save_nifti(ramp())
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(ReadError, match="ends before the checksum"):
        read_nifti(path)


def test_infinities_of_both_signs_are_counted(save_nifti: Save) -> None:
    array = ramp("float32")
    array[0, 0, :2] = np.inf, -np.inf
    with pytest.raises(ReadError, match="2 of 60 voxels"):
        read_nifti(save_nifti(array))


@pytest.mark.parametrize("border", [-1, 0, 1])
def test_streams_may_end_anywhere_in_a_chunk(tmp_path: Path, border: int) -> None:
    generator = np.random.default_rng(0)
    plain = generator.integers(0, 256, 3 * inflate._CHUNK, np.uint8)
    first = gzip.compress(plain[: inflate._CHUNK - 100 - border], mtime=0)
    spare = inflate._CHUNK + border - len(first)  # of stored bytes the length is known
    first = gzip.compress(plain[: inflate._CHUNK - 100 - border + spare], mtime=0)
    cut = inflate._CHUNK - 100 - border + spare
    (tmp_path / "x.gz").write_bytes(first + gzip.compress(plain[cut:]) + bytes(border + 1))
    out = np.zeros(len(plain), np.uint8)
    with (tmp_path / "x.gz").open("rb") as file:
        assert inflate.inflate_into(file, out) == len(plain)
    np.testing.assert_array_equal(out, plain)
    with (tmp_path / "x.gz").open("rb") as file:
        assert inflate.inflate_into(file, out[:-1]) == len(plain)  # one more than asked for
