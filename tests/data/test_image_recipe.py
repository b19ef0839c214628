import math
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from medvlp.data.image_recipe import ImageRecipe


def recipe_of(size: int = 4, **changes: object) -> ImageRecipe:
    fields = {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.5, 1.0)}
    return ImageRecipe(size, **{**fields, **changes})


def torch_chance(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_shorter_side_is_resized_and_the_centre_cut() -> None:
    pixels = np.zeros((4, 11), np.uint8)
    pixels[:, 4:8] = 200  # offset round((11 - 4) / 2) = round(3.5) = 4
    cut = recipe_of().evaluation_input(Image.fromarray(pixels))
    assert cut.shape == (3, 4, 4) and cut.dtype == torch.uint8
    assert (cut == 200).all()


def test_normalisation_by_hand() -> None:
    image = torch.tensor([0, 255, 51], dtype=torch.uint8).reshape(3, 1, 1)
    normalised = recipe_of().finish(image).flatten()
    assert normalised.tolist() == pytest.approx([-2.0, 1.0, -0.3])


def test_the_long_side_is_truncated() -> None:
    recipe = recipe_of(6)
    image = Image.fromarray(np.arange(5 * 8, dtype=np.uint8).reshape(5, 8))
    wide = np.array(image.resize((int(6 * 8 / 5), 6), Image.Resampling.BICUBIC))
    left = round((9 - 6) / 2)
    expected = torch.from_numpy(wide[:, left : left + 6].copy())
    assert torch.equal(recipe.evaluation_input(image)[0], expected)


def test_sixteen_bits_are_scaled_by_default_and_saturate_as_published() -> None:
    pixels = np.linspace(1000, 3000, 16, dtype=np.uint16).reshape(4, 4)
    image = Image.fromarray(pixels)
    default = recipe_of().evaluation_input(image)
    assert default.min() == 0 and default.max() == 255
    assert (recipe_of(compat="published").evaluation_input(image) == 255).all()


def test_a_palette_is_resolved_before_resizing_by_default() -> None:
    image = Image.new("P", (8, 8))
    image.putpalette([0, 0, 0, 255, 255, 255] + [0] * 750)
    image.putdata([(x // 1) % 2 for _ in range(8) for x in range(8)])
    smooth = recipe_of().evaluation_input(image)
    nearest = recipe_of(compat="published").evaluation_input(image)
    assert ((smooth > 0) & (smooth < 255)).any()
    assert set(nearest.unique().tolist()) <= {0, 255}


def test_transparency_lies_on_black() -> None:
    image = Image.new("RGBA", (4, 4), (255, 255, 255, 0))
    assert recipe_of().evaluation_input(image).max() == 0


def test_training_crops_stay_inside_and_follow_the_generator() -> None:
    recipe = recipe_of(crop_scale=(0.3, 0.6))
    for seed in range(50):
        left, top, right, bottom = recipe.random_box((30, 20), torch_chance(seed))
        assert 0 <= left < right <= 30 and 0 <= top < bottom <= 20
        share, ratio = (right - left) * (bottom - top) / 600, (right - left) / (bottom - top)
        assert 0.2 < share < 0.7 and 0.7 < ratio < 1.45
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (20, 30, 3), np.uint8))
    first, again = (recipe.training_input(image, np.random.default_rng(3)) for _ in range(2))
    assert torch.equal(first, again)


@pytest.mark.parametrize("coloured", [None, (7, 5)])
def test_grey_stored_in_colour_gives_the_pixels_of_colour(coloured: tuple[int, int] | None) -> None:
    grey = np.random.default_rng(0).integers(0, 256, (60, 70, 1), np.uint8).repeat(3, axis=2)
    if coloured:
        grey[(*coloured, 1)] ^= 255  # one pixel of one channel
    image = Image.fromarray(grey)
    recipe = recipe_of(size=32)
    expected = image.crop((3, 2, 60, 50)).resize((32, 32), Image.Resampling.BICUBIC)
    cut = recipe.cut(image, (3, 2, 60, 50))
    assert np.array_equal(cut.numpy(), np.asarray(expected).transpose(2, 0, 1))
    assert recipe.evaluation_input(image).shape == (3, 32, 32)


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_the_fast_resize_is_off_by_one_at_most(mode: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
    image = Image.fromarray(noise).convert(mode)
    published, fast = (
        recipe_of(size=32, training_resize=name).training_input(image, np.random.default_rng(1))
        for name in ("pillow", "torch")
    )
    difference = (published.int() - fast.int()).abs()
    assert published.shape == fast.shape == (3, 32, 32)
    assert (
        difference.max() == 1 and difference.float().mean() < 0.05
    )  # of noise: the worst there is


def test_the_fast_resize_leaves_other_modes_and_the_evaluation_alone() -> None:
    palette = Image.fromarray(np.arange(100, dtype=np.uint8).reshape(10, 10)).convert("P")
    slow, fast = (
        recipe_of(compat="published"),
        recipe_of(compat="published", training_resize="torch"),
    )
    inputs = [one.training_input(palette, np.random.default_rng(1)) for one in (slow, fast)]
    assert torch.equal(*inputs)
    grey = palette.convert("L")
    assert torch.equal(slow.evaluation_input(grey), fast.evaluation_input(grey))
    assert slow.hash == fast.hash


def test_only_a_draft_is_decoded_smaller() -> None:
    assert recipe_of(size=224).draft_side is None
    assert recipe_of(size=224, training_resize="draft").draft_side == 336


def test_a_strip_falls_back_to_a_centred_crop() -> None:
    box = recipe_of(crop_scale=(1.0, 1.0)).random_box((100, 10), torch_chance(0))
    assert box == (43, 0, 56, 10)  # 13 = round(10 * 4 / 3) pixels wide


def test_draws_come_in_the_published_order() -> None:
    """Area, ratio, top, left, by hand with torch's own draws; here the first try fits."""
    chance = torch_chance(5)
    area = 4000 * float(torch.empty(1).uniform_(0.25, 0.5, generator=chance))
    ratio = float(torch.empty(1).uniform_(0.0, math.log(2.0), generator=chance).exp())
    width, height = round((area * ratio) ** 0.5), round((area / ratio) ** 0.5)
    top = int(torch.randint(50 - height + 1, (1,), generator=chance))
    left = int(torch.randint(80 - width + 1, (1,), generator=chance))
    recipe = recipe_of(crop_scale=(0.25, 0.5), crop_ratio=(1.0, 2.0))
    box = recipe.random_box((80, 50), torch_chance(5))
    assert box == (left, top, left + width, top + height)


def test_a_crop_leaves_the_global_generator_alone() -> None:
    state = torch.get_rng_state()
    image = Image.new("L", (30, 20))
    assert recipe_of().training_input(image, np.random.default_rng(0)).shape == (3, 4, 4)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("size", "box"),
    [((10, 100), (0, 43, 10, 56)), ((100, 10), (43, 0, 56, 10)), ((10, 10), (0, 0, 10, 10))],
)
def test_the_fallback_is_the_largest_allowed_rectangle(
    size: tuple[int, int], box: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("medvlp.data.image_recipe._TRIES", 0)
    assert recipe_of().random_box(size, torch_chance(0)) == box


def test_hash_depends_on_what_changes_an_evaluation() -> None:
    assert recipe_of().hash == recipe_of(crop_scale=(0.5, 1.0)).hash
    changes = [{"size": 5}, {"mean": (0.4, 0.5, 0.5)}, {"compat": "published"}]
    assert len({recipe_of(**change).hash for change in changes} | {recipe_of().hash}) == 4


@pytest.mark.parametrize(
    "change", [{"size": 0}, {"std": (1.0, 1.0, 0.0)}, {"crop_scale": (0.9, 0.1)}]
)
def test_impossible_recipes(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected"):
        recipe_of(**change)
