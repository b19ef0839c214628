import os
from pathlib import Path

import numpy as np
import pytest

from medvlp.data.readers.registry import Irregular, ReadError, read

from .dicom_writer import set_all, voxels, write_series

SHARED = Path(os.environ.get("MEDVLP_SHARED_DATA", Path(__file__).parents[4] / "shared" / "data"))
HEAD = SHARED / "dicom_head_ct_tilted" / "dicom"
real = pytest.mark.skipif(not HEAD.is_dir(), reason="no real head CT beside the repository")


def write_at(folder: Path, heights: list[float], array: np.ndarray | None = None) -> Path:
    """Write slices straight above each other, at these heights above the first one."""
    array = voxels(len(heights)) if array is None else array
    place = set_all(ImagePositionPatient=lambda index: [-10, -20, 5 + heights[index]])
    return write_series(folder, array, change=place)


def from_gaps(*gaps: float) -> list[float]:
    return [0.0, *np.cumsum(gaps).round(6).tolist()]


def test_a_tilt_is_refused_or_sheared_straight(tmp_path: Path) -> None:
    # 45 degrees: every slice lies 2.4 mm = 3 rows further back, for 2.4 mm of height
    folder = write_series(tmp_path / "s", step=(0.0, 2.4, 2.4))
    with pytest.raises(ReadError, match=r"gantry tilt.*45\.0 degrees; .*irregular=\"correct\""):
        read(folder)
    with pytest.warns(UserWarning, match=r"5 slices with a gantry tilt of 45\.0 degrees were"):
        scan = read(folder, irregular="correct")
    assert scan.array.shape == (5, 8 + 12, 6) and scan.array.dtype == np.uint16
    assert scan.spacing_mm == pytest.approx((2.4, 0.8, 0.7)) and scan.orientation == "SPL"
    for index in range(5):
        rows = slice(3 * index, 3 * index + 8)
        np.testing.assert_array_equal(scan.array[index, rows], voxels()[index])
        assert (np.delete(scan.array[index], np.r_[rows], axis=0) == 24).all()
    # a voxel is where its slice said it is
    np.testing.assert_allclose(scan.affine @ [0, 3 * 4, 4, 1], [10, 20 - 9.6, 5 + 9.6, 1])
    assert scan.provenance["resampled_slices"] == 0 and scan.provenance["gaps_mm"] == []


@pytest.mark.filterwarnings("ignore:.*were shifted straight")
def test_a_tilt_between_rows_is_interpolated(tmp_path: Path) -> None:
    array = np.zeros((3, 4, 2), np.int16)
    array[:, 1] = 100
    folder = write_series(tmp_path / "s", array, step=(0.0, -0.2, 2.0))
    scan = read(folder, irregular="correct")
    # slice 1 lies a quarter of a row forward, slice 2 half a row; one row more in front
    expected = [[0, 0, 100, 0, 0], [0, 25, 75, 0, 0], [0, 50, 50, 0, 0]]
    np.testing.assert_array_equal(scan.array[..., 0], expected)
    np.testing.assert_allclose(scan.affine[:3, 3], [10, 20 + 0.8, 5])


def test_uneven_slices_are_refused_or_resampled(tmp_path: Path) -> None:
    heights = from_gaps(1, 1, 1, 1.5, 2, 2, 2)  # up to 10.5 mm
    ramp = np.round(100 * np.array(heights))[:, None, None] + 7 * np.arange(6)
    folder = write_at(tmp_path / "s", heights, np.tile(ramp, (1, 8, 1)).astype(np.int16))
    with pytest.raises(ReadError, match=r"uneven.*from 1 to 2 mm apart; .*irregular=\"correct\""):
        read(folder)
    with pytest.warns(UserWarning, match="8 slices from 1 to 2 mm apart were resamp") as caught:
        scan = read(folder, irregular="correct")
    assert len(caught) == 1
    assert scan.array.shape == (11, 8, 6) and scan.array.dtype == np.int16
    np.testing.assert_array_equal(scan.array[:, 0, 0], 100 * np.arange(11))
    np.testing.assert_array_equal(scan.array[10, 3], 1000 + 7 * np.arange(6))
    assert scan.spacing_mm == pytest.approx((1, 0.8, 0.7)) and scan.orientation == "SPL"
    np.testing.assert_allclose(scan.affine @ [0, 0, 10, 1], [10, 20, 15, 1])
    told = scan.provenance
    assert told["num_slices"] == 8 and told["resampled_slices"] == 11
    assert told["gaps_mm"] == [1, 1, 1, 1.5, 2, 2, 2]
    assert told["corrections"] == ["8 slices from 1 to 2 mm apart were resampled to 11 every 1 mm"]


@pytest.mark.filterwarnings("ignore:.*were resampled")
def test_slices_of_the_finest_zone_are_kept_as_they_are(tmp_path: Path) -> None:
    folder = write_at(tmp_path / "s", from_gaps(4, 4, 4, 1, 2, 2, 2))
    scan = read(folder, irregular="correct")
    np.testing.assert_allclose(scan.affine[:3, 3], [10, 20, 5 + 1])  # 13 mm less six steps
    np.testing.assert_allclose(scan.affine @ [0, 0, 9, 1], [10, 20, 5 + 19, 1])
    assert scan.array.shape == (10, 8, 6)
    np.testing.assert_array_equal(scan.array[6:], voxels(8)[4:])
    # 1, 3 and 5 mm: a quarter, three quarters of 48 above the first slice; a quarter above
    assert scan.array[:3, 0, 0].tolist() == [24 + 12, 24 + 36, 24 + 48 + 12]


@pytest.mark.filterwarnings("ignore:.*were resampled")
def test_integers_are_rounded_and_values_are_not(tmp_path: Path) -> None:
    array = np.zeros((4, 2, 2), np.int16)
    array[3] = 10
    heights = from_gaps(2, 2, 3)  # no zone: the median is the spacing, 6 mm the last slice
    scan = read(write_at(tmp_path / "ct", heights, array), irregular="correct")
    assert scan.array[:, 0, 0].tolist() == [0, 0, 0, 7]  # 10 * 2 / 3
    rules = set_all(
        Modality="MR",
        RescaleSlope=lambda index: 1 + (index == 0),
        RescaleIntercept=0,
        ImagePositionPatient=lambda index: [0, 0, heights[index]],
    )
    folder = write_series(tmp_path / "mr", array, change=rules)
    scan = read(folder, irregular="correct")
    assert scan.array.dtype == np.float32
    np.testing.assert_allclose(scan.array[:, 0, 0], [0, 0, 0, 20 / 3], rtol=1e-6)


def test_what_is_tilted_and_uneven_is_corrected_in_both(tmp_path: Path) -> None:
    # 45 degrees, linear in y and z of the world: 20 a row of 0.8 mm, 50 each 2.4 mm of height
    heights = np.array(from_gaps(2.4, 2.4, 2.4, 1.2, 4.8, 4.8, 4.8))
    back = -20 + heights[:, None] + 0.8 * np.arange(40)
    plane = 25 * back + 50 / 2.4 * heights[:, None]
    array = np.repeat(plane.round().astype(np.int16)[..., None], 3, axis=2)
    place = set_all(ImagePositionPatient=lambda i: [-10, -20 + heights[i], 5 + heights[i]])
    folder = write_series(tmp_path / "s", array, change=place)
    with pytest.raises(ReadError, match=r"45\.0 degrees, and uneven spacing.*1\.2 to 4\.8 mm"):
        read(folder)
    with pytest.warns(UserWarning, match="shifted straight; 8 slices from 1.2 to 4.8") as caught:
        scan = read(folder, irregular="correct")
    assert len(caught) == 1 and len(scan.provenance["corrections"]) == 2
    assert scan.array.shape == (10, 40 + 29, 3)  # up to 21.6 of 22.8 mm
    world = np.stack(np.meshgrid(0, np.arange(29, 40), np.arange(10), [1], indexing="ij"))
    x, y, z, _ = np.tensordot(scan.affine, world[:, 0, :, :, 0].reshape(4, -1), 1)
    expected = (25 * -y + 50 / 2.4 * (z - 5)).reshape(11, 10).T
    np.testing.assert_allclose(scan.array[:, 29:40, 0], expected, rtol=0, atol=1e-6)
    assert x == pytest.approx(10)


@pytest.mark.parametrize(
    ("gaps", "message"),
    [
        ((2, 2, 4, 2), r"1 slices are missing: slices are 2 mm apart.*there are 4 mm"),
        ((1, 1, 1, 2, 1, 1, 1, 2, 2, 2), "1 slices are missing: slices are 1 mm apart"),
        ((1, 1, 1, 4.1, 2, 2, 2), r"1 slices are missing: slices are 2 mm apart.*there are 4\.1"),
        ((1, 1, 1, 2, 2, 2, 8), r"3 slices are missing.*\(at 14 and 22 mm\)"),
        ((2, 2, 2, 4, 4, 2, 2, 2), "2 slices are missing"),
        ((1, 3, 1, 3, 1, 3), "6 slices are missing: slices are 1 mm apart"),
    ],
)
@pytest.mark.parametrize("irregular", ["refuse", "correct"])
def test_missing_slices_are_never_made_up(
    tmp_path: Path, gaps: tuple[float, ...], message: str, irregular: Irregular
) -> None:
    with pytest.raises(ReadError, match=message):
        read(write_at(tmp_path / "s", from_gaps(*gaps)), irregular=irregular)


def test_zones_are_not_taken_for_missing_slices(tmp_path: Path) -> None:
    folder = write_at(tmp_path / "s", from_gaps(2.5, 2.5, 2.5, 5, 5, 5))
    with pytest.raises(ReadError, match=r"uneven spacing: slices are from 2\.5 to 5 mm apart"):
        read(folder)
    with pytest.warns(UserWarning, match=r"7 slices .* were resampled to 10 every 2\.5 mm"):
        assert read(folder, irregular="correct").array.shape == (10, 8, 6)


@real
def test_the_whole_real_head_is_corrected() -> None:
    """18.5 degrees; 14 slices 4 mm apart at the skull base, 14 slices 7 mm apart above."""
    with pytest.raises(ReadError, match=r"18\.5 degrees, and uneven spacing.*1\.08 to 7 mm apart"):
        read(HEAD)
    with pytest.warns(UserWarning, match="resampled to 37 every 4 mm"):
        scan = read(HEAD, irregular="correct")
    assert scan.array.shape == (37, 611, 512) and scan.array.dtype == np.int16
    assert scan.spacing_mm == pytest.approx((4.0, 0.488, 0.488), abs=2e-3)
    assert scan.orientation == "SPL"
    assert scan.provenance["tilt_corrected_degrees"] == pytest.approx(18.5, abs=0.01)
    columns = scan.affine[:3, :3] / np.linalg.norm(scan.affine[:3, :3], axis=0)
    np.testing.assert_allclose(columns.T @ columns, np.eye(3), atol=1e-6)
    hu = scan.array.astype(np.float32) * scan.rescale.slope + scan.rescale.intercept
    assert np.median(hu) == pytest.approx(-1000, abs=20)  # air around the head
    assert np.median(hu[15:30, 240:360, 180:320]) == pytest.approx(30, abs=10)  # brain
    assert hu.max() > 1000  # bone
    # air lies in front of the head and behind it, the vertex is closed above
    assert np.median(hu[18, 0]) < -900 and np.median(hu[18, -1]) < -900
    assert (hu[-1] > 300).sum() < (hu[18] > 300).sum()


@real
def test_the_skull_base_of_the_real_head_is_only_shifted() -> None:
    lower = sorted(HEAD.iterdir())[:14]
    with pytest.warns(UserWarning, match="14 slices with a gantry tilt"):
        part = read(HEAD, lower, irregular="correct")
    with pytest.warns(UserWarning, match="resampled"):
        whole = read(HEAD, irregular="correct")
    assert part.provenance["resampled_slices"] == 0
    offset = np.linalg.inv(whole.affine) @ part.affine[:, 3]
    column, row, slice_ = np.round(offset[:3]).astype(int)
    np.testing.assert_allclose(offset[:3], [column, row, slice_], atol=1e-3)
    same = whole.array[:14, row : row + part.array.shape[1]]
    assert (column, slice_) == (0, 0)
    # rows that no slice covers are filled with the lowest value of what was read
    covered = (same > -1000) & (part.array > -1000)
    np.testing.assert_array_equal(same[covered], part.array[covered])
    assert covered.mean() > 0.2
