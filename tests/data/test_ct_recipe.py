import numpy as np
import pytest
import torch

from medvlp.data.ct_recipe import CTRecipe
from medvlp.data.recipe import require_same_recipe
from medvlp.data.scan import Rescale, Scan, orientation_of, resampled_affine


def scan_of(array: np.ndarray, orientation: str = "SPL", rescale: Rescale | None = None) -> Scan:
    return Scan(array, np.eye(4), (3.0, 1.0, 1.0), orientation, rescale or Rescale())


def recipe_of(**changes: object) -> CTRecipe:
    fields = {
        "size": (2, 2, 2),
        "spacing_mm": (3.0, 1.0, 1.0),
        "window_hu": (-1000.0, 1000.0),
        "mean": 0.5,
        "std": 0.25,
        "store_dtype": "float32",
    }
    return CTRecipe(**{**fields, **changes})


def stored_of(scan: Scan, **changes: object) -> np.ndarray:
    return recipe_of(**changes).prepare(scan).arrays["image"]


def thorax() -> np.ndarray:
    """HU, with enough air and tissue for the check of the rescale rule."""
    array = np.full((6, 10, 10), -1000, np.int16)
    array[:, 2:8, 2:8] = 40
    return array


def test_window_crop_pad_normalise_by_hand() -> None:
    # -1000 HU -> 0 -> -2; 0 HU -> 0.5 -> 0; 1000 HU and more -> 1 -> 2; padding is the low end
    stored = np.array([[[0.0, 3000.0]]], np.float32)
    image = recipe_of().network_input(stored)
    assert image.tolist() == [[[[0.0, 2.0], [-2.0, -2.0]], [[-2.0, -2.0], [-2.0, -2.0]]]]


def test_crop_takes_the_centre_and_pads_the_smaller_half_before() -> None:
    recipe = recipe_of(size=(2, 3, 4), mean=0.0, std=1.0, window_hu=(0.0, 100.0))
    stored = np.arange(5 * 3 * 1, dtype=np.float32).reshape(5, 3, 1)
    assert recipe.region((5, 3, 1)) == (slice(1, 3), slice(0, 3), slice(0, 1))
    image = recipe.network_input(stored)[0]
    assert image[:, :, 1].tolist() == pytest.approx(np.array([[3, 4, 5], [6, 7, 8]]) / 100)
    assert image[:, :, [0, 2, 3]].abs().max() == 0
    part = stored[recipe.region(stored.shape)]
    torch.testing.assert_close(recipe.network_input(part)[0], image, rtol=0, atol=0)


def test_resampling_has_the_published_size_and_orientation_is_undone() -> None:
    array = thorax() + np.arange(10, dtype=np.int16)[None, None]
    straight = stored_of(scan_of(array), spacing_mm=(6.0, 1.5, 1.0))
    assert straight.shape == (3, 6, 10)  # int(6*3/6), int(10*1/1.5), 10
    turned = Scan(array.transpose(2, 0, 1)[::-1], np.eye(4), (1.0, 3.0, 1.0), "RSP", Rescale())
    np.testing.assert_array_equal(stored_of(turned, spacing_mm=(6.0, 1.5, 1.0)), straight)


def test_the_grid_of_the_stored_volume_is_known() -> None:
    # slices 3 mm upwards, rows 1 mm to the back, columns 2 mm to the left
    affine = np.array([[-2.0, 0, 0, 50], [0, -1.0, 0, 40], [0, 0, 3.0, -10], [0, 0, 0, 1]])
    scan = Scan(thorax(), affine, (3.0, 1.0, 2.0), orientation_of(affine))
    kept = resampled_affine(scan, "SPL", (6, 10, 10))
    np.testing.assert_allclose(kept @ [1, 2, 3, 1], affine @ [3, 2, 1, 1])
    flipped = resampled_affine(scan, "IPL", (6, 10, 10))
    np.testing.assert_allclose(flipped @ [0, 2, 3, 1], affine @ [3, 2, 5, 1])
    # half as many slices: the first new one lies between old ones 0 and 1
    halved = resampled_affine(scan, "SPL", (3, 10, 10))
    np.testing.assert_allclose(halved @ [0, 0, 0, 1], affine @ [0, 0, 0.5, 1])
    stated = scan.restated(orientation="IPL")  # the table overrules the header's letters
    np.testing.assert_allclose(resampled_affine(stated, "IPL", (6, 10, 10))[:3, 0], [0, 0, -3])


def test_the_dense_half_may_wait_for_the_device() -> None:
    stored = stored_of(scan_of(thorax()), store_dtype="int16")
    recipe = recipe_of(size=(4, 12, 8), store_dtype="int16")
    assert recipe.can_defer and recipe.packed_dtype == torch.int16
    packed = np.full((1, 4, 12, 8), 7, np.int16)
    recipe.pack(lambda region, out: np.copyto(out, stored[region]), stored.shape, packed)
    deferred = recipe.finish(torch.from_numpy(packed))
    torch.testing.assert_close(deferred, recipe.network_input(stored), rtol=0, atol=1e-6)
    assert not recipe_of(fit="resize").can_defer
    assert not recipe_of(window_hu=(-1000.5, 0.0), store_dtype="int16").can_defer


@pytest.mark.parametrize(("dtype", "error"), [("int16", 0.5), ("float16", 0.5), ("float32", 0.0)])
def test_storage(dtype: str, error: float) -> None:
    array = thorax().astype(np.float32) + 0.3
    stored = stored_of(scan_of(array), store_dtype=dtype)
    assert stored.dtype == dtype
    assert np.abs(stored.astype(np.float32) - array).max() <= error


def test_values_that_do_not_fit_are_refused() -> None:
    array = thorax().astype(np.float32)
    array[0, 0, 0] = 1e6
    with pytest.raises(ValueError, match="int16 cannot hold"):
        recipe_of(store_dtype="int16").prepare(scan_of(array))


@pytest.mark.parametrize("intercept", [-1024.0, -8192.0])
def test_the_rescale_rule_must_fit_the_numbers(intercept: float) -> None:
    raw = (thorax().astype(np.int32) - int(intercept)).astype(np.int16)
    stored = stored_of(scan_of(raw, rescale=Rescale(1.0, intercept)))
    np.testing.assert_array_equal(stored, thorax())
    with pytest.raises(ValueError, match=r"HU already.*second time"):
        recipe_of().prepare(scan_of(thorax(), rescale=Rescale(1.0, intercept)))


def test_a_missing_rescale_rule_is_noticed() -> None:
    with pytest.raises(ValueError, match="intercept is missing"):
        recipe_of().prepare(scan_of((thorax() + 1024).astype(np.int16)))


def test_a_crop_inside_the_body_passes() -> None:
    recipe_of().prepare(scan_of(np.full((6, 10, 10), 50, np.int16)))


def test_hash_depends_on_every_field() -> None:
    changes = [
        {"size": (2, 2, 3)},
        {"spacing_mm": (3.0, 1.0, 2.0)},
        {"window_hu": (-1000.0, 400.0)},
        {"mean": 0.4},
        {"std": 0.3},
        {"fit": "resize"},
        {"orientation": "SAR"},
        {"store_dtype": "int16"},
    ]
    hashes = {recipe_of(**change).hash for change in changes} | {recipe_of().hash}
    assert len(hashes) == len(changes) + 1
    assert recipe_of().hash == recipe_of().hash


def test_a_mismatch_prints_both_side_by_side() -> None:
    ours, theirs = recipe_of().describe(), recipe_of(mean=0.4).describe()
    require_same_recipe(ours, recipe_of().describe(), ours_from="a", theirs_from="b")
    with pytest.raises(ValueError, match=r"mean <-- differs +0\.5 +0\.4"):
        require_same_recipe(ours, theirs, ours_from="config", theirs_from="checkpoint")


@pytest.mark.parametrize(
    "change", [{"window_hu": (5.0, 5.0)}, {"std": 0.0}, {"size": (0, 2, 2)}, {"orientation": "XX"}]
)
def test_impossible_recipes(change: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        recipe_of(**change)


def test_another_modality_is_refused() -> None:
    with pytest.raises(ValueError, match="MR scan"):
        recipe_of().prepare(scan_of(thorax()).restated(modality="MR"))
