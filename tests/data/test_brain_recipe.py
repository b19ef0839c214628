import itertools

import numpy as np
import pytest
import torch

from medvlp.data.brain_recipe import BrainRecipe
from medvlp.data.intensity import Bytes, HounsfieldWindow, Percentiles
from medvlp.data.recipe import Prepared
from medvlp.data.scan import Rescale, Scan, orientation_of
from medvlp.types import Size3D


def recipe_of(**changes: object) -> BrainRecipe:
    fields = {
        "size": (4, 6, 6),
        "intensity": Percentiles(0.0, 100.0),
        "mean": 0.0,
        "std": 1.0,
        "resize": 8,
        "store_dtype": "float32",
    }
    return BrainRecipe(**{**fields, **changes})


def scan_of(array: np.ndarray, affine: np.ndarray, modality: str = "MR") -> Scan:
    x, y, z = (float(mm) for mm in np.linalg.norm(affine[:3, :3], axis=0))
    return Scan(array, affine, (z, y, x), orientation_of(affine), modality=modality)


def ramp(*shape: int) -> np.ndarray:
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


def image_of(prepared: Prepared) -> np.ndarray:
    return prepared.arrays["image"]


def test_itk_rpi_flips_x_and_z_of_an_lps_file() -> None:
    array = ramp(2, 3, 4)  # (z, y, x) of a file in ITK's identity: L, P, S
    stored = image_of(recipe_of().prepare(scan_of(array, np.diag([-1.0, -1.0, 2.0, 1.0]))))
    np.testing.assert_allclose(stored, array[::-1, :, ::-1] / 23, atol=1e-6)


@pytest.mark.parametrize(
    ("spacing_xyz", "order_of_zyx"),
    [
        ((1.0, 1.0, 4.0), (0, 1, 2)),
        ((1.0, 4.0, 1.0), (1, 0, 2)),
        ((4.0, 1.0, 1.0), (2, 0, 1)),
        ((1.0, 1.0, 1.0), (0, 1, 2)),
        ((3.0, 3.0, 1.0), (1, 0, 2)),  # a tie: the first in (z, y, x)
        ((3.0, 1.0, 3.0 - 1e-6), (0, 1, 2)),  # a tie but for 32-bit rounding
    ],
)
def test_the_axis_of_the_largest_spacing_comes_first(
    spacing_xyz: tuple[float, ...], order_of_zyx: tuple[int, ...]
) -> None:
    x, y, z = spacing_xyz
    array = ramp(2, 3, 4)
    scan = scan_of(array, np.diag([x, -y, -z, 1.0]))  # stored as R, P, I
    kept = image_of(recipe_of(slices_first=False).prepare(scan))
    np.testing.assert_allclose(kept, array / 23, atol=1e-6)
    stored = image_of(recipe_of().prepare(scan))
    np.testing.assert_allclose(stored, array.transpose(order_of_zyx) / 23, atol=1e-6)


@pytest.mark.parametrize(
    ("spacing_xyz", "order_of_zyx"),
    [
        ((3.0, 3.0, 1.0), (2, 0, 1)),  # stacked channels: the first in (x, y, z)
        ((2.0, 2.0, 2.0), (0, 1, 2)),  # but z where all are equal
    ],
)
def test_two_channels_are_stacked(
    spacing_xyz: tuple[float, ...], order_of_zyx: tuple[int, ...]
) -> None:
    x, y, z = spacing_xyz
    array = ramp(2, 2, 3, 4)
    prepared = recipe_of().prepare(scan_of(array, np.diag([x, -y, -z, 1.0])))
    expected = np.concatenate([channel.transpose(order_of_zyx) for channel in array]) / 47
    np.testing.assert_allclose(image_of(prepared), expected, atol=1e-6)
    assert prepared.facts["num_channels"] == 2
    with pytest.raises(ValueError, match=r"3 x 2 x 3 x 4, expected one 3D volume or 2"):
        recipe_of().prepare(scan_of(ramp(3, 2, 3, 4), np.eye(4)))


def test_how_a_file_is_stored_does_not_matter() -> None:
    array, affine = ramp(2, 3, 4), np.diag([0.7, 0.8, 3.0, 1.0])
    affine[:3, 3] = (-20.0, 10.0, 5.0)
    expected = recipe_of().prepare(scan_of(array, affine))
    for axes in itertools.permutations(range(3)):
        for flips in itertools.product((1, -1), repeat=3):
            turn = np.eye(4)  # from the new index (i, j, k) to the old
            for new, old in enumerate(axes):
                turn[:3, new] = np.eye(3)[old] * flips[new]
                turn[old, 3] = 0 if flips[new] == 1 else array.T.shape[old] - 1
            stored = array.T.transpose(axes)[tuple(slice(None, None, flip) for flip in flips)].T
            turned = affine @ turn
            turned[:, 3] = affine @ np.array([*turn[:3, 3], 1.0])
            prepared = recipe_of().prepare(scan_of(stored, turned))
            np.testing.assert_array_equal(image_of(prepared), image_of(expected))
            np.testing.assert_allclose(prepared.facts["affine"], expected.facts["affine"])


def test_the_affine_says_where_each_voxel_is() -> None:
    array, affine = ramp(2, 3, 4), np.diag([0.7, 0.8, 3.0, 1.0])
    affine[:3, 3] = (-20.0, 10.0, 5.0)
    prepared = recipe_of().prepare(scan_of(array, affine))
    brightest = np.unravel_index(image_of(prepared).argmax(), image_of(prepared).shape)
    where = np.array(prepared.facts["affine"]) @ np.array([*brightest, 1.0])
    np.testing.assert_allclose(where, affine @ np.array([3, 2, 1, 1.0]))


@pytest.mark.parametrize("degrees", [0.0, 10.0, 40.0, 45.0, 46.0, 90.0, 135.0, 170.0])
@pytest.mark.parametrize("axes", [(0, 1), (0, 2), (1, 2)])
def test_oblique_scans_go_where_itk_sends_them(degrees: float, axes: tuple[int, int]) -> None:
    itk = pytest.importorskip("SimpleITK")
    angle = np.deg2rad(degrees)
    direction = np.eye(3)
    direction[np.ix_(axes, axes)] = [
        [np.cos(angle), -np.sin(angle)],
        [np.sin(angle), np.cos(angle)],
    ]
    array = ramp(2, 3, 4)
    image = itk.GetImageFromArray(array)
    image.SetDirection(direction.ravel().tolist())
    expected = itk.GetArrayFromImage(itk.DICOMOrient(image, "RPI"))
    affine = np.eye(4)
    affine[:3, :3] = np.diag([-1.0, -1.0, 1.0]) @ direction
    stored = image_of(recipe_of(slices_first=False).prepare(scan_of(array, affine)))
    np.testing.assert_allclose(stored, expected / 23, atol=1e-6)


def test_slices_are_chosen_squared_resized_and_cut() -> None:
    recipe = recipe_of(size=(2, 2, 2), resize=4, mean=0.5, std=0.5)
    stored = np.zeros((4, 2, 4), np.float32)  # squared by one row before and one after
    stored[1] = 0.25
    stored[3] = 1.0
    image = recipe.network_input(stored)
    # nearest-exact takes slices 1 and 3; side 4 is kept; the centre holds no padding
    assert image.tolist() == [[[[-0.5, -0.5]] * 2, [[1.0, 1.0]] * 2]]
    wider = recipe_of(size=(1, 4, 4), resize=4, mean=0.5, std=0.5).network_input(stored[3:])
    assert wider[0, 0, :, 0].tolist() == [-1.0, 1.0, 1.0, -1.0]


def test_without_resizing_slices_are_cut_or_padded() -> None:
    recipe = recipe_of(size=(1, 2, 4), resize=None)
    image = recipe.network_input(ramp(1, 4, 1) + 1)
    assert image.tolist() == [[[[0, 2, 0, 0], [0, 3, 0, 0]]]]


def test_more_slices_may_be_shown_under_the_same_contract() -> None:
    few, many = recipe_of(size=(4, 6, 6)), recipe_of(size=(9, 6, 6))
    assert few.hash == many.hash
    stored = np.random.default_rng(0).random((5, 7, 6), np.float32)
    assert many.network_input(stored).shape == (1, 9, 6, 6)
    assert set(map(tuple, few.network_input(stored)[0].flatten(1).tolist())) <= set(
        map(tuple, many.network_input(stored)[0].flatten(1).tolist())
    )


def test_inputs_read_the_whole_volume_and_uint16_is_fine_enough() -> None:
    scan = scan_of(np.random.default_rng(0).random((5, 7, 6), np.float32), np.eye(4))
    images = []
    for dtype in ("float32", "uint16"):
        recipe = recipe_of(store_dtype=dtype)
        stored = image_of(recipe.prepare(scan))
        row = {"shape": list(stored.shape)}
        images.append(recipe.inputs(lambda name, region, stored=stored: stored, row)["image"])
    assert images[0].shape == (1, *recipe.size)
    assert 0 < float((images[0] - images[1]).abs().max()) < 1e-5


def test_rescale_rules_are_applied_and_bytes_are_divided() -> None:
    array = np.array([[[0, 20, 80, 100]]], np.int16)
    rule = Rescale(1.0, -10.0)
    scan = Scan(array, np.diag([1.0, -1.0, -1.0, 1.0]), (1.0, 1.0, 1.0), "IPR", rule)
    window = recipe_of(intensity=HounsfieldWindow(0.0, 80.0))
    expected = [0, 0.125, 0.875, 1]
    assert image_of(window.prepare(scan)).ravel().tolist() == pytest.approx(expected)
    raw = Scan(array, scan.affine, scan.spacing_mm, "IPR", modality="MR")
    divided = image_of(recipe_of(intensity=Bytes()).prepare(raw)).ravel()
    assert divided.tolist() == pytest.approx((array.ravel() / 255).tolist())


def test_hash_depends_on_every_field() -> None:
    changes = [
        {"size": (4, 6, 5)},
        {"intensity": Percentiles(1.0, 99.0)},
        {"intensity": HounsfieldWindow(0.0, 80.0)},
        {"intensity": Bytes()},
        {"mean": 0.1},
        {"std": 0.3},
        {"resize": 9},
        {"resize": None},
        {"orientation": "SPL"},
        {"slices_first": False},
        {"store_dtype": "uint16"},
    ]
    hashes = {recipe_of(**change).hash for change in changes} | {recipe_of().hash}
    assert len(hashes) == len(changes) + 1


@pytest.mark.parametrize(
    "change", [{"size": (0, 6, 6)}, {"std": 0.0}, {"resize": 5}, {"orientation": "XYZ"}]
)
def test_impossible_recipes(change: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        recipe_of(**change)


def test_region_is_everything() -> None:
    shape: Size3D = (3, 4, 5)
    assert recipe_of().region(shape) == (slice(0, 3), slice(0, 4), slice(0, 5))
    assert torch.is_tensor(recipe_of().network_input(np.zeros(shape, np.uint16)))
