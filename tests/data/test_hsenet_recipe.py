import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from medvlp.data import slice_stack
from medvlp.data.body_volume import BodyVolume, resampled_shape
from medvlp.data.hsenet_augmentation import HSENetAugmentation
from medvlp.data.hsenet_recipe import HSENetRecipe
from medvlp.data.image_recipe import ImageRecipe
from medvlp.data.scan import Rescale, Scan, orientation_of
from medvlp.data.slice_stack import FewSlices, SliceStack, even_indices, through_jpeg

WINDOW, WIDE = (-1000.0, 200.0), (-1000.0, 1000.0)


def scan_of(array: np.ndarray, affine: np.ndarray) -> Scan:
    x, y, z = (float(mm) for mm in np.linalg.norm(affine[:3, :3], axis=0))
    return Scan(array, affine, (z, y, x), orientation_of(affine))


def thorax(shape: tuple[int, int, int] = (10, 14, 12), xy: float = 1.0) -> Scan:
    generator = np.random.default_rng(0)
    array = np.full(shape, -1000.0)
    body = array[:, 2:-3, 1:-4]
    body[...] = 40 + generator.normal(0, 100, body.shape)
    affine = np.diag([-xy, -xy, 2.0, 1.0])  # stored as CT-RATE's files are
    affine[:3, 3] = (30.0, -20.0, 7.0)
    return scan_of(array.round().astype(np.int16), affine)


def turned(scan: Scan) -> Scan:
    """The same voxels, stored with w and h exchanged and d backwards."""
    old = scan.affine.copy()
    new = old[:, [1, 0, 2, 3]].copy()
    new[:3, 3] += old[:3, 2] * (scan.array.shape[0] - 1)
    new[:3, 2] *= -1
    return scan_of(scan.array[::-1].transpose(0, 2, 1), new)


def small() -> ImageRecipe:
    return ImageRecipe(8, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4))


def recipe_of(**changes: object) -> HSENetRecipe:
    fields = {
        "size": (4, 8, 8),
        "volume": BodyVolume(WINDOW, spacing_mm=(1.5, 0.75, 0.75)),
        "slices": SliceStack(4, window_hu=WIDE, spacing_mm=(1.5, 0.75, 0.75)),
        "slice_input": small(),
    }
    return HSENetRecipe(**{**fields, **changes})


def test_the_body_is_windowed_scaled_cut_and_resized_by_hand() -> None:
    array = np.full((2, 3, 4), -1500, np.int16)
    array[0, 1, 2], array[1, 1, 1] = 3000, -400
    scan = scan_of(array, np.diag([-1.0, -1.0, 2.0, 1.0]))
    image, facts = BodyVolume(WINDOW)(scan, (2, 2, 1))
    # axes (z, x, y); the box is z 0..1, x 1..2, y 1; -400 HU is half way from -1000 to 200
    np.testing.assert_allclose(image, [[[0], [1]], [[0.5], [0]]], atol=1e-6)
    assert facts["resampled_shape"] == [2, 4, 3] and facts["body_shape"] == [2, 2, 1]
    np.testing.assert_allclose(np.array(facts["affine"])[:3, 3], [-1, -1, 0])


def test_the_affine_follows_the_cut_and_the_resize() -> None:
    array = np.full((2, 6, 8), -1000, np.int16)
    array[:, 1:5, 2:6] = 0
    scan = scan_of(array, np.diag([-1.0, -1.0, 2.0, 1.0]))
    _, facts = BodyVolume(WINDOW)(scan, (2, 2, 8))
    affine = np.array(facts["affine"])
    # x 2..5 in two voxels of 2 mm: the first centre lies at x 2.5; y 1..4 in eight of 0.5 mm
    np.testing.assert_allclose(affine[:3, 3], [-2.5, -0.75, 0])
    np.testing.assert_allclose(affine[:3, :3], [[0, -2, 0], [0, 0, -0.5], [2, 0, 0]], atol=1e-12)


def test_the_ratio_of_spacings_is_taken_first() -> None:
    assert resampled_shape((40, 40, 40), (1.2, 1.5, 3.0), (1.5, 1.5, 1.5)) == (31, 40, 80)
    with pytest.raises(ValueError, match="would be left"):
        resampled_shape((1, 40, 40), (1.0, 1.0, 1.0), (1.5, 1.0, 1.0))


def test_for_ct_rates_storage_the_published_code_and_the_default_agree() -> None:
    scan = thorax(xy=1.1)
    published = HSENetRecipe(
        (4, 8, 8),
        BodyVolume(WINDOW, spacing_mm=(1.5, 0.75, 0.75), compat="published"),
        slices=SliceStack(4, window_hu=WIDE, spacing_mm=(1.5, 0.75, 0.75), compat="ct_rate"),
        slice_input=small(),
    ).prepare(scan)
    ours = recipe_of().prepare(scan)
    np.testing.assert_allclose(
        ours.arrays["image"] / 65535, published.arrays["image"] / 65535, atol=3e-5
    )
    difference = ours.arrays["slices"].astype(int) - published.arrays["slices"]
    assert np.abs(difference).max() <= 1
    np.testing.assert_allclose(ours.facts["affine"], published.facts["affine"])


def test_how_a_file_is_stored_does_not_matter_but_to_the_published_code() -> None:
    scan = thorax()
    for changes in ({}, {"volume": BodyVolume(WINDOW), "slices": SliceStack(4, scale="volume")}):
        straight, other = (recipe_of(**changes).prepare(s) for s in (scan, turned(scan)))
        for name in ("image", "slices"):
            np.testing.assert_array_equal(straight.arrays[name], other.arrays[name])
        np.testing.assert_allclose(straight.facts["affine"], other.facts["affine"])
    published = BodyVolume(WINDOW, spacing_mm=(1.5, 0.75, 0.75), compat="published")
    images = [recipe_of(volume=published).prepare(s).arrays["image"] for s in (scan, turned(scan))]
    assert not np.array_equal(images[0], images[1])


def test_long_scans_are_cut_along_x_by_the_published_code() -> None:
    stack = SliceStack(4, window_hu=WIDE, compat="ct_rate")
    assert stack(thorax((11, 14, 12))).shape == (4, 14, 12)  # rows y, columns x
    # 12 slices of 12 columns: (x, y, z) stays; slices of x have rows y, columns z, then turn
    long = thorax((12, 14, 12))
    assert stack(long).shape == (4, 12, 14)
    third = long.array.T[3].clip(-1000, 1000).astype(float)
    expected = (third - third.min()) / (third.max() - third.min()) * 255
    np.testing.assert_array_equal(stack(long)[1], np.rot90(expected.astype(np.uint8), -1))
    default = SliceStack(4, window_hu=WIDE)(long)
    assert default.shape == (4, 14, 12)


def test_slices_are_scaled_as_asked_and_truncated() -> None:
    array = np.array([[[0, 10]], [[0, 20]], [[5, 5]], [[0, 40]]], np.int16)
    scan = scan_of(array, np.diag([1.0, -1.0, 1.0, 1.0]))  # columns to the right
    each = SliceStack(4, scale="slice")(scan)
    assert each[:, 0].tolist() == [[0, 255], [0, 255], [0, 0], [0, 255]]
    whole = SliceStack(4, scale="volume")(scan)
    assert whole[:, 0].tolist() == [[0, 63], [0, 127], [31, 31], [0, 255]]  # 63.75, 127.5, 31.9
    window = SliceStack(4, scale="window", window_hu=(-20.0, 20.0))(scan)
    assert window[:, 0].tolist() == [[127, 191], [127, 255], [159, 159], [127, 255]]


def test_the_choice_of_slices_by_hand() -> None:
    assert even_indices(63, 32).tolist() == list(range(0, 63, 2))
    assert even_indices(32, 32).tolist() == list(range(32))
    array = np.array([0, 100], np.int16).reshape(2, 1, 1) * np.ones((1, 1, 2), np.int16)
    array[0, 0, 0] = 100
    scan = scan_of(array, np.diag([1.0, -1.0, 1.0, 1.0]))
    repeated = SliceStack(4, scale="volume", few="repeat")(scan)
    assert repeated[:, 0, 1].tolist() == [0, 0, 0, 255]
    blended = SliceStack(4, scale="volume")(scan)
    assert blended[:, 0, 1].tolist() == [0, 63, 191, 255]


def test_bimcv_turns_the_other_way_and_scales_large_files_by_slice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan = thorax((4, 14, 12))
    stack = SliceStack(4, scale="volume", few="repeat", compat="bimcv_r")
    values = scan.array.transpose(0, 2, 1).astype(float)
    whole = ((values - values.min()) / (values.max() - values.min()) * 255).astype(np.uint8)
    np.testing.assert_array_equal(stack(scan), np.rot90(whole, 1, axes=(1, 2)))
    path = tmp_path / "large.nii.gz"
    path.write_bytes(b"0" * 100)
    monkeypatch.setattr(slice_stack, "_LARGE_FILE", 99)
    large = stack(replace(scan, provenance={"path": str(path)}))
    by_slice = SliceStack(4, scale="slice", few="repeat", compat="bimcv_r")(scan)
    np.testing.assert_array_equal(large, by_slice)
    assert not np.array_equal(large, stack(scan))


def test_jpeg_loses_a_little() -> None:
    image = np.random.default_rng(0).integers(100, 140, (40, 48)).astype(np.uint8)
    once = through_jpeg(image, 95)
    assert once.shape == image.shape and once.dtype == np.uint8
    assert 0 < np.abs(once.astype(int) - image).max() <= 12
    file = io.BytesIO()
    Image.fromarray(image).save(file, format="JPEG", quality=95)
    np.testing.assert_array_equal(once, np.asarray(Image.open(file)))
    scan = thorax()
    stacks = [SliceStack(4, window_hu=WIDE, jpeg_quality=quality)(scan) for quality in (None, 95)]
    assert not np.array_equal(stacks[0], stacks[1])


def test_inputs_give_the_volume_and_slices_as_the_encoder_takes_them() -> None:
    recipe = recipe_of()
    prepared = recipe.prepare(thorax())
    inputs = recipe.inputs(lambda name, region: prepared.arrays[name], {"shape": list(recipe.size)})
    assert inputs["image"].shape == (1, 4, 8, 8) and inputs["slices"].shape == (4, 3, 8, 8)
    assert float(inputs["image"].min()) >= 0 and float(inputs["image"].max()) <= 1
    grey = Image.fromarray(prepared.arrays["slices"][2])
    colour = small().finish(small().evaluation_input(grey.convert("RGB")))
    torch.testing.assert_close(inputs["slices"][2], colour, rtol=0, atol=0)


def test_the_first_stage_needs_no_slices() -> None:
    recipe = recipe_of(slices=None, slice_input=None)
    assert recipe.fields == ("image",)
    prepared = recipe.prepare(thorax())
    assert list(prepared.arrays) == ["image"]
    inputs = recipe.inputs(lambda name, region: prepared.arrays[name], {})
    assert list(inputs) == ["image"]
    with pytest.raises(ValueError, match="makes no slices"):
        recipe.slices_input(np.zeros((4, 8, 8), np.uint8))


def test_rescale_rules_are_applied_once() -> None:
    scan = thorax()
    raw = replace(scan, array=scan.array + np.int16(1024), rescale=Rescale(1.0, -1024.0))
    expected, ours = (recipe_of().prepare(s) for s in (scan, raw))
    for name in ("image", "slices"):
        np.testing.assert_array_equal(ours.arrays[name], expected.arrays[name])
    with pytest.raises(ValueError, match="second time"):
        recipe_of().prepare(replace(scan, rescale=Rescale(1.0, -1024.0)))


def test_what_cannot_be_prepared_is_refused() -> None:
    scan = thorax()
    with pytest.raises(ValueError, match="MR scan"):
        recipe_of().prepare(replace(scan, modality="MR"))
    with pytest.raises(ValueError, match="all voxels are 200"):
        recipe_of().prepare(replace(scan, array=np.full((4, 4, 4), 400, np.int16)))
    few = SliceStack(40, few="refuse")
    with pytest.raises(ValueError, match="10 slices, and 40 are wanted; leave the scan out"):
        recipe_of(slices=few).prepare(scan)


@pytest.mark.parametrize(("few", "done"), [("interpolate", "interpolated"), ("repeat", "repeated")])
def test_too_few_slices_are_told(few: FewSlices, done: str) -> None:
    fields = {"window_hu": WIDE, "spacing_mm": (1.5, 0.75, 0.75)}
    prepared = recipe_of(slices=SliceStack(14, few=few, **fields)).prepare(thorax())  # 2 mm
    (told,) = prepared.facts["corrections"]
    assert told.startswith("13 slices, and 14 are wanted: ") and done in told
    assert "corrections" not in recipe_of(slices=SliceStack(13, **fields)).prepare(thorax()).facts


def test_hash_depends_on_every_field() -> None:
    volumes = [
        BodyVolume(WIDE, spacing_mm=(1.5, 0.75, 0.75)),
        BodyVolume(WINDOW),
        BodyVolume(WINDOW, spacing_mm=(1.5, 0.75, 0.75), orientation="SPL"),
        BodyVolume(WINDOW, spacing_mm=(1.5, 0.75, 0.75), compat="published"),
    ]
    fields = {"window_hu": WIDE, "spacing_mm": (1.5, 0.75, 0.75)}
    stacks = [
        SliceStack(5, **fields),
        SliceStack(4, **{**fields, "window_hu": None}),
        SliceStack(4, **{**fields, "spacing_mm": None}),
        SliceStack(4, **fields, scale="volume"),
        SliceStack(4, **fields, few="repeat"),
        SliceStack(4, **fields, orientation="SPL"),
        SliceStack(4, **fields, jpeg_quality=95),
        SliceStack(4, **fields, compat="ct_rate"),
    ]
    changes = [
        {"size": (4, 8, 9)},
        {"store_dtype": "float32"},
        {"slices": None, "slice_input": None},
        {"slice_input": ImageRecipe(9, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4))},
        *({"volume": volume} for volume in volumes),
        *({"slices": stack} for stack in stacks),
    ]
    hashes = {recipe_of(**change).hash for change in changes} | {recipe_of().hash}
    assert len(hashes) == len(changes) + 1


@pytest.mark.parametrize(
    "make",
    [
        lambda: BodyVolume((5.0, 5.0)),
        lambda: BodyVolume(WINDOW, spacing_mm=(0.0, 1.0, 1.0)),
        lambda: SliceStack(1),
        lambda: SliceStack(4, scale="window"),
        lambda: SliceStack(4, window_hu=(1.0, 0.0)),
        lambda: recipe_of(slices=None),
        lambda: recipe_of(size=(0, 8, 8)),
        lambda: HSENetAugmentation(rotate_prob=1.5),
        lambda: HSENetAugmentation(flip_probs=(0.1,)),
    ],
)
def test_impossible_recipes(make: object) -> None:
    with pytest.raises(ValueError):
        make()  # type: ignore[operator]


def test_augmentation_is_off_by_default_and_each_part_does_its_own() -> None:
    image = torch.rand(1, 3, 4, 4)
    chance = np.random.default_rng(0)
    assert HSENetAugmentation()(image, chance).equal(image)
    flipped = HSENetAugmentation(flip_probs=(1.0, 0.0, 1.0))(image, chance)
    assert flipped.equal(image.flip((1, 3)))
    turns = [HSENetAugmentation(rotate_prob=1.0)(image, chance) for _ in range(20)]
    expected = [torch.rot90(image, k, (2, 3)) for k in (1, 2, 3)]
    assert all(any(turn.equal(want) for want in expected) for turn in turns)
    assert all(any(turn.equal(want) for turn in turns) for want in expected)
    changed = HSENetAugmentation(intensity_prob=1.0)(image, chance)
    slope = float((changed.max() - changed.min()) / (image.max() - image.min()))
    offset = float(changed.min() - slope * image.min())
    assert 0.9 <= slope <= 1.1 and -0.1 <= offset <= 0.1 and slope != 1.0
    with pytest.raises(ValueError, match="needs squares"):
        HSENetAugmentation(rotate_prob=0.1)(torch.rand(1, 3, 4, 5), chance)
