import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from medvlp.data.anatomy_mask import AnatomyMask, MaskGrid, header_holds
from medvlp.data.readers.registry import read
from medvlp.data.scan import Rescale, Scan, orientation_of, resampled_affine

REAL = Path(os.environ.get("MEDVLP_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data"))


def scan_of(array: np.ndarray, affine: np.ndarray | None = None) -> Scan:
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) if affine is None else affine
    x, y, z = (float(mm) for mm in np.linalg.norm(affine[:3, :3], axis=0))
    return Scan(array, affine, (z, y, x), orientation_of(affine))


def labels(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 4, shape).astype(np.uint8)


def keep(grid: MaskGrid = "affine") -> AnatomyMask:
    return AnatomyMask({"one": [1], "two": [2], "three": [3]}, grid)


def test_labels_are_merged_in_the_order_of_the_names() -> None:
    rule = AnatomyMask({"lung": [10, 11], "heart": [51]})
    merged = rule.merge(np.array([[[0, 10, 11, 51, 52]]], np.int16))
    assert merged.tolist() == [[[0, 1, 1, 2, 0]]]
    assert rule.merge(np.array([[[0.0, 51.0]]], np.float32)).tolist() == [[[0, 2]]]
    swapped = AnatomyMask({"heart": [51], "lung": [10, 11]})
    assert swapped.describe() != rule.describe()


def test_an_anatomy_without_labels_stays_absent() -> None:
    rule = AnatomyMask({"lung": [10], "face": [], "heart": [51]})
    assert rule.merge(np.array([[[10, 51, 52]]], np.int16)).tolist() == [[[1, 3, 0]]]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([0.0, 0.5], "expected labels"),
        ([-3, 10], "expected labels"),
        ([0, 70000], "expected labels"),
        ([0, 3], "has none of lung"),
    ],
)
def test_what_is_no_mask_is_refused(values: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AnatomyMask({"lung": [10]}).merge(np.array([[values]]))


def test_a_scaled_mask_is_read_as_its_header_says() -> None:
    mask = replace(scan_of(np.array([[[0, 1, 2]]], np.uint8)), rescale=Rescale(10.0, 0.0))
    assert AnatomyMask({"lung": [10], "heart": [20]}).ids(mask).tolist() == [[[0, 1, 2]]]


def test_a_mask_without_geometry_must_be_said_to_lie_like_the_image() -> None:
    array = labels(4, 5, 6)
    bare = Scan(array, np.full((4, 4), np.nan), (np.nan, np.nan, np.nan), "SPL")
    image = scan_of(np.zeros((4, 5, 6)))
    with pytest.raises(ValueError, match="a bare array, without geometry"):
        keep().place(bare, image, orientation="SPL", shape=(4, 5, 6))
    placed = keep("index").place(bare, image, orientation="SPL", shape=(4, 5, 6))
    np.testing.assert_array_equal(placed, array)


def test_masks_agree_where_every_axis_runs_backwards() -> None:
    affine = np.diag([1.0, 1.0, -1.0, 1.0])
    affine[:3, 3] = (0.1, 0.1, 0.1)  # less than a voxel: rounding of a header
    array = labels(4, 5, 6)
    image = scan_of(np.zeros((4, 5, 6)), np.diag([1.0, 1.0, -1.0, 1.0]))
    placed = keep().place(scan_of(array, affine), image, orientation="IPL", shape=(4, 5, 6))
    np.testing.assert_array_equal(placed, array[:, ::-1, ::-1])


@pytest.mark.parametrize("anatomies", [{}, {"lung": []}, {"lung": [0]}, {"a": [1], "b": [2, 1]}])
def test_impossible_anatomies(anatomies: dict[str, list[int]]) -> None:
    with pytest.raises(ValueError, match="anatomies is"):
        AnatomyMask(anatomies)


def test_a_mask_on_the_same_grid_is_taken_as_it_is() -> None:
    array = labels(4, 5, 6)
    placed = keep().place(scan_of(array), scan_of(array), orientation="SPL", shape=(4, 5, 6))
    np.testing.assert_array_equal(placed, array)
    half = keep().place(scan_of(array), scan_of(array), orientation="SPL", shape=(2, 5, 6))
    np.testing.assert_array_equal(half, array[1::2])  # a tie: the voxel above, in any storage


def test_how_the_mask_is_stored_does_not_matter() -> None:
    array, image = labels(4, 5, 6), scan_of(np.zeros((4, 5, 6)))
    affine = np.diag([1.0, -1.0, -1.0, 1.0])  # flipped along w and d
    affine[:3, 3] = (-5, 0, 3)
    turned = scan_of(array[::-1, :, ::-1], affine)
    for shape in ((4, 5, 6), (2, 7, 3)):
        expected = keep().place(scan_of(array), image, orientation="SPL", shape=shape)
        placed = keep().place(turned, image, orientation="SPL", shape=shape)
        np.testing.assert_array_equal(placed, expected)
    swapped = np.zeros((4, 4))  # i and k exchanged
    swapped[[0, 1, 2, 3], [2, 1, 0, 3]] = (-1, -1, 1, 1)
    placed = keep().place(
        scan_of(array.transpose(2, 1, 0), swapped), image, orientation="SPL", shape=(4, 5, 6)
    )
    np.testing.assert_array_equal(placed, array)


def test_a_mask_on_another_grid_is_placed_by_the_affines() -> None:
    # half the spacing, centres of the first voxels 0.5 mm apart along d: d, h, w -> 2d - 1, 2h, 2w
    image, mask = np.zeros((3, 4, 4)), np.zeros((9, 9, 9), np.uint8)
    mask[3, 2, 6], mask[8, 8, 8] = 2, 1  # the other lies outside the image
    affine = np.diag([-0.5, -0.5, 0.5, 1.0])
    affine[2, 3] = 0.5
    placed = keep().place(scan_of(mask, affine), scan_of(image), orientation="SPL", shape=(3, 4, 4))
    assert np.argwhere(placed).tolist() == [[2, 1, 3]] and placed[2, 1, 3] == 2


def test_oblique_masks_agree_with_a_lookup_voxel_by_voxel() -> None:
    angle = np.deg2rad(25)
    affine = np.eye(4)
    affine[:2, :2] = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    affine[:3, :3] *= (-0.8, -0.9, 1.3)
    affine[:3, 3] = (2.0, 1.0, -1.5)
    array, image = labels(6, 12, 14), scan_of(np.zeros((5, 8, 9)))
    shape = (4, 6, 9)
    mask = scan_of(array, affine)
    placed = keep().place(mask, image, orientation="SPL", shape=shape)
    ours = resampled_affine(image, "SPL", shape)
    for index in np.ndindex(*shape):
        i, j, k = np.floor(np.linalg.inv(affine) @ ours @ [*index, 1] + 0.5 + 1e-4)[:3].astype(int)
        inside = 0 <= k < 6 and 0 <= j < 12 and 0 <= i < 14
        assert placed[index] == (array[k, j, i] if inside else 0)


def test_grids_that_cannot_belong_together_are_refused() -> None:
    image, array = scan_of(np.zeros((4, 5, 6))), labels(4, 5, 6)
    far, lost = np.diag([-1.0, -1.0, 1.0, 1.0]), np.diag([-1.0, -1.0, 1.0, 1.0])
    far[2, 3], lost[2, 3] = 500.0, 2.5
    with pytest.raises(ValueError, match=r"begins 2\.5 mm away"):
        keep().place(scan_of(array, lost), image, orientation="SPL", shape=(4, 5, 6))
    with pytest.raises(ValueError, match="no anatomy of the mask lies inside"):
        keep().place(scan_of(labels(3, 5, 6), far), image, orientation="SPL", shape=(4, 5, 6))
    placed = keep("index").place(scan_of(array, lost), image, orientation="SPL", shape=(4, 5, 6))
    np.testing.assert_array_equal(placed, array)
    with pytest.raises(ValueError, match=r"the image \(4, 5, 6\)"):
        keep("index").place(scan_of(labels(3, 5, 6)), image, orientation="SPL", shape=(4, 5, 6))


def test_where_the_data_set_overrules_the_header_sizes_must_agree() -> None:
    array = labels(4, 5, 6)
    wrong = np.diag([1.0, 1.0, 1.0, 1.0])  # the header of the raw file
    image = scan_of(np.zeros((4, 5, 6)), wrong).restated(
        spacing_mm=(2.0, 1.0, 1.0), orientation="SPL"
    )
    assert not header_holds(image)
    right = np.diag([1.0, -1.0, 2.0, 1.0])  # the mask's own header, flipped along w
    right[:3, 3] = (77.0, 5.0, 9.0)
    mask = scan_of(array[:, :, ::-1], right)
    placed = keep().place(mask, image, orientation="SPL", shape=(4, 5, 6))
    np.testing.assert_array_equal(placed, array)
    with pytest.raises(ValueError, match="make the mask from the same file"):
        keep().place(scan_of(labels(5, 5, 6), right), image, orientation="SPL", shape=(4, 5, 6))


@pytest.mark.skipif(not REAL.is_dir(), reason=f"no real data at {REAL}")
def test_a_real_heart_on_another_grid_than_its_scan() -> None:
    folder = REAL / "ct_chest_pulmonary"
    image, heart = read(folder / "ct_cropped.nii.gz"), read(folder / "heart.nii.gz")
    assert image.array.shape != heart.array.shape
    rule = AnatomyMask({"heart": [int(heart.array.max())]})
    placed = rule.place(heart, image, orientation=image.orientation, shape=image.array.shape)
    values = image.array[placed > 0] * image.rescale.slope + image.rescale.intercept
    share = float(np.mean((values > -100) & (values < 600)))
    assert placed.mean() > 0.05 and share > 0.9, (placed.mean(), share)
    shifted = np.roll(placed, 30, axis=2)  # elsewhere there is lung
    assert np.mean(image.array[shifted > 0] > -100) < share - 0.1
    turned = replace(
        heart, array=heart.array[:, :, ::-1], affine=_flipped(heart.affine, heart.array.shape[2])
    )
    turned = replace(turned, orientation=orientation_of(turned.affine))
    again = rule.place(turned, image, orientation=image.orientation, shape=image.array.shape)
    np.testing.assert_array_equal(again, placed)


def _flipped(affine: np.ndarray, length: int) -> np.ndarray:
    flipped = affine.copy()
    flipped[:3, 3] += affine[:3, 0] * (length - 1)
    flipped[:3, 0] *= -1
    return flipped
