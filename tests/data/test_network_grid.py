"""What a network says of its input, back on the grid of the scan."""

import numpy as np
import pytest

from medvlp.data.brain_recipe import BrainRecipe
from medvlp.data.ct_recipe import CTRecipe
from medvlp.data.hsenet_recipe import HSENetRecipe
from medvlp.data.intensity import Percentiles
from medvlp.data.network_grid import ScanGrid, stored_axes
from medvlp.data.scan import Scan, orientation_of

LETTERS = ["SPL", "IAR", "LSP", "RPI", "AIL"]


def scan(array: np.ndarray, letters: str, spacing: tuple[float, float, float], modality="CT"):
    base = Scan(array, np.full((4, 4), np.nan), spacing, letters, modality=modality)
    placed = base.restated(spacing_mm=spacing, orientation=letters)
    assert orientation_of(placed.affine) == letters
    return placed


def blob(shape: tuple[int, int, int], place: tuple[float, float, float]) -> np.ndarray:
    """Make a smooth bump, in HU of air and tissue."""
    axes = np.meshgrid(*[np.arange(length) for length in shape], indexing="ij")
    squares = sum(((a - p) / (0.14 * n)) ** 2 for a, p, n in zip(axes, place, shape, strict=True))
    return (-1000 + 1000 * np.exp(-squares)).astype(np.float32)


def ct_recipe(fit: str = "crop", size=(16, 20, 20)) -> CTRecipe:
    return CTRecipe(
        list(size), [3.0, 2.0, 2.0], window_hu=[-1000.0, 0.0], mean=0.0, std=1.0, fit=fit,
        store_dtype="float32",
    )  # fmt: skip


def brain_recipe(resize: int | None = 32) -> BrainRecipe:
    return BrainRecipe([24, 28, 28], Percentiles(0.5, 99.5), mean=0.0, std=1.0, resize=resize)


def there_and_back(recipe, source: Scan) -> tuple[np.ndarray, ScanGrid]:
    prepared = recipe.prepare(source)
    stored = prepared.arrays["image"]
    grid = ScanGrid.of(recipe, source, stored.shape, prepared.facts)
    return grid.to_scan(recipe.network_input(stored)[0].numpy()), grid


@pytest.mark.parametrize("letters", LETTERS)
@pytest.mark.parametrize("fit", ["crop", "resize"])
def test_a_ct_comes_back_where_it_was(letters, fit):
    array = blob((21, 26, 30), (9.0, 15.0, 11.0))
    back, _ = there_and_back(ct_recipe(fit), scan(array, letters, (2.4, 1.9, 1.7)))
    assert back.shape == array.shape
    assert np.unravel_index(back.argmax(), back.shape) == pytest.approx((9, 15, 11), abs=1)


@pytest.mark.parametrize("letters", LETTERS)
@pytest.mark.parametrize("fit", ["crop", "resize"])
def test_a_ramp_comes_back_exactly_inside(letters, fit):
    depth, height, width = np.indices((21, 26, 30), dtype=np.float32)
    array = -900 + 10 * depth + 7 * height + 5 * width
    back, grid = there_and_back(ct_recipe(fit, (20, 40, 40)), scan(array, letters, (2.4, 1.9, 1.7)))
    assert grid.field().all()
    inner = (slice(2, -2),) * 3
    np.testing.assert_allclose(back[inner], (array / 1000 + 1)[inner], atol=1e-5)


@pytest.mark.parametrize("letters", LETTERS)
@pytest.mark.parametrize("resize", [32, None])
def test_a_brain_comes_back_where_it_was(letters, resize):
    array = blob((22, 30, 26), (9.0, 17.0, 11.0)) + 1000
    source = scan(array, letters, (5.0, 1.0, 1.0), "MR")
    back, _ = there_and_back(brain_recipe(resize), source)
    assert np.unravel_index(back.argmax(), back.shape) == pytest.approx((9, 17, 11), abs=1)


def test_of_stacked_channels_the_larger_value_counts():
    first, second = (blob((22, 30, 30), p) + 1000 for p in [(6, 10, 10), (15, 20, 12)])
    channels = np.stack([first, second])
    whole = scan(first, "IPR", (5.0, 1.0, 1.0), "MR")
    stacked = Scan(channels, whole.affine, whole.spacing_mm, "IPR", modality="MR")
    back, grid = there_and_back(brain_recipe(), stacked)
    assert grid.num_channels == 2 and back.shape == first.shape
    assert min(back[6, 10, 10], back[15, 20, 12]) > 0.7 > 0.2 > back[10, 5, 25]


@pytest.mark.parametrize("letters", LETTERS)
@pytest.mark.parametrize("recipe", [ct_recipe(), ct_recipe("resize"), brain_recipe()])
def test_a_place_on_a_coarse_grid_is_the_voxel_at_its_centre(letters, recipe):
    modality = "CT" if isinstance(recipe, CTRecipe) else "MR"
    source = scan(blob((24, 40, 44), (12, 20, 22)), letters, (2.0, 1.0, 1.0), modality)
    prepared = recipe.prepare(source)
    grid = ScanGrid.of(recipe, source, prepared.arrays["image"].shape, prepared.facts)
    coarse = np.zeros((4, 4, 4), np.float32)
    coarse[1, 2, 1] = 1.0
    place = grid.to_scan_index((1, 2, 1), coarse.shape)
    assert place is not None
    values = grid.to_scan(coarse)
    assert values[place] >= 0.8 * values.max()
    assert grid.field()[place]


def test_what_lies_outside_of_the_scan_has_no_place():
    recipe = ct_recipe(size=(64, 64, 64))
    source = scan(blob((10, 10, 10), (5, 5, 5)), "SPL", (3.0, 2.0, 2.0))
    prepared = recipe.prepare(source)
    grid = ScanGrid.of(recipe, source, prepared.arrays["image"].shape, prepared.facts)
    assert grid.to_scan_index((0, 0, 0), (4, 4, 4)) is None
    assert grid.field().all()


def test_voxels_that_the_network_does_not_see_are_zero():
    recipe = ct_recipe(size=(8, 8, 8))
    source = scan(blob((20, 20, 20), (5, 5, 5)), "SPL", (3.0, 2.0, 2.0))
    prepared = recipe.prepare(source)
    grid = ScanGrid.of(recipe, source, prepared.arrays["image"].shape, prepared.facts)
    field = grid.field()
    assert field.sum() == 8**3 and field[6:14, 6:14, 6:14].all()


def test_an_unknown_recipe_is_refused():
    recipe = object.__new__(HSENetRecipe)
    with pytest.raises(ValueError, match="cannot be brought back to the scan under a HSENetRecipe"):
        stored_axes(recipe, (4, 4, 4))
