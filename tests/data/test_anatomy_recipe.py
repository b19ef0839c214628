from dataclasses import replace

import numpy as np
import pytest

from medvlp.data.anatomy_mask import AnatomyMask
from medvlp.data.anatomy_recipe import AnatomyRecipe, published_hounsfield
from medvlp.data.recipe import Prepared, ReadField
from medvlp.data.scan import Rescale, Scan, orientation_of

ORGANS = {"lung": [10, 11], "heart": [51]}


def recipe_of(**changes: object) -> AnatomyRecipe:
    fields = {
        "size": (4, 6, 6),
        "spacing_mm": (2.0, 1.0, 1.0),
        "window_hu": (-1000.0, 1000.0),
        "mask": AnatomyMask(ORGANS),
        "margin": (1, 2, 2),
    }
    return AnatomyRecipe(**{**fields, **changes})


def scan_of(array: np.ndarray, affine: np.ndarray) -> Scan:
    x, y, z = (float(mm) for mm in np.linalg.norm(affine[:3, :3], axis=0))
    return Scan(array, affine, (z, y, x), orientation_of(affine))


def thorax(spacing: tuple[float, float, float] = (1.5, 1.0, 2.0)) -> Scan:
    """Air and tissue with a heart at w 3..5, h 4..6, d 2..3 and a lung left of it."""
    generator = np.random.default_rng(0)
    array = np.full((6, 10, 12), -1000.0)
    array[:, 2:8, 2:10] = 40
    array = (array + generator.normal(0, 5, array.shape)).round().astype(np.int16)
    labels = np.zeros(array.shape, np.uint8)
    labels[2:4, 4:7, 3:6] = 51
    labels[2:5, 4:7, 7:9] = 11
    labels[0, 0, 0] = 3  # no anatomy of ours
    x, y, z = spacing
    affine = np.diag([-x, -y, z, 1.0])
    affine[:3, 3] = (30.0, -20.0, 7.0)
    mask = scan_of(labels, affine)
    return replace(scan_of(array, affine), companions={"anatomy_mask": mask})


def turned(scan: Scan) -> Scan:
    """The same voxels, stored with w and h exchanged and d backwards."""
    old = scan.affine.copy()
    new = old[:, [1, 0, 2, 3]].copy()
    new[:3, 3] += old[:3, 2] * (scan.array.shape[0] - 1)
    new[:3, 2] *= -1
    return scan_of(scan.array[::-1].transpose(0, 2, 1), new)


def reader(prepared: Prepared) -> ReadField:
    return lambda name, region: (
        prepared.arrays[name] if region is None else prepared.arrays[name][region]
    )


def row(prepared: Prepared) -> dict[str, object]:
    return {"shape": list(prepared.arrays["image"].shape), **prepared.facts}


def test_image_and_mask_are_resampled_windowed_and_cut_to_the_organs() -> None:
    scan = thorax((1.0, 1.0, 2.0))  # the recipe's own spacing
    prepared = recipe_of().prepare(scan)
    # organs d 2..4, h 4..6, w 3..8; margins 1, 2, 2, the upper one voxel less
    box = (slice(1, 5), slice(2, 8), slice(1, 10))
    unit = (scan.array[box].clip(-1000, 1000) + 1000.0) / 2000
    np.testing.assert_allclose(prepared.arrays["image"] / 65535, unit, atol=1e-5)
    mask = prepared.arrays["anatomy_mask"]
    assert mask.shape == unit.shape
    assert prepared.facts["anatomy_voxels"] == {"lung": 18, "heart": 18}
    assert prepared.facts["anatomies_lost"] == []
    assert mask[1:3, 2:5, 2:5].tolist() == np.full((2, 3, 3), 2).tolist()
    corner = np.array(prepared.facts["affine"]) @ [0, 0, 0, 1]
    np.testing.assert_allclose(corner, scan.affine @ [1, 2, 1, 1])


def test_the_new_size_follows_each_axis_own_spacing_and_published_swaps_two() -> None:
    scan = thorax((1.5, 1.0, 3.0))
    assert recipe_of().prepare(scan).facts["resampled_shape"] == [9, 10, 18]
    published = recipe_of(compat="published").prepare(scan).facts["resampled_shape"]
    assert published == [9, 15, 12]


def test_how_files_are_stored_does_not_matter_but_to_the_published_code() -> None:
    scan = thorax()
    other = replace(
        turned(scan), companions={"anatomy_mask": turned(scan.companions["anatomy_mask"])}
    )
    mixed = replace(other, companions=scan.companions)
    expected = recipe_of().prepare(scan)
    for variant in (other, mixed):
        prepared = recipe_of().prepare(variant)
        for name in recipe_of().fields:
            np.testing.assert_array_equal(prepared.arrays[name], expected.arrays[name])
        np.testing.assert_allclose(prepared.facts["affine"], expected.facts["affine"], atol=1e-9)
    with pytest.raises(ValueError, match="compares no headers"):
        recipe_of(compat="published").prepare(mixed)
    with pytest.raises(ValueError, match="voxels would be left"):  # a diagonal of zeros
        recipe_of(compat="published").prepare(other)


def test_evaluation_gives_the_whole_volume_padded_to_the_least_size() -> None:
    recipe = recipe_of(size=(7, 4, 12))
    prepared = recipe.prepare(thorax((1.0, 1.0, 2.0)))  # 4 x 6 x 9 after the cut
    inputs = recipe.inputs(reader(prepared), row(prepared))
    image, mask = inputs["image"], inputs["anatomy_mask"]
    assert image.shape == (1, 7, 6, 12) and mask.shape == (7, 6, 12)
    assert image[0, :1].max() == 0 and image[0, 5:].max() == 0  # 3 more: 1 before, 2 after
    assert image[0, :, :, 0].max() == 0 and image[0, :, :, 10:].max() == 0
    np.testing.assert_array_equal(mask[1:5, :, 1:10], prepared.arrays["anatomy_mask"])


def test_training_cuts_and_flips_image_and_mask_together() -> None:
    recipe = recipe_of(size=(3, 8, 5), flip_prob=0.5)
    prepared = recipe.prepare(thorax((1.0, 1.0, 2.0)))
    image = prepared.arrays["image"].copy()
    mask = prepared.arrays["anatomy_mask"]
    # a volume whose numbers tell the place: mask and image must stay together
    image[...] = np.arange(image.size).reshape(image.shape)
    places = Prepared({"image": image, "anatomy_mask": mask}, prepared.facts)
    seen = set()
    for seed in range(40):
        inputs = recipe.inputs(reader(places), row(places), generator=np.random.default_rng(seed))
        crop, organs = inputs["image"][0], inputs["anatomy_mask"]
        assert crop.shape == organs.shape == (3, 8, 5)
        index = (crop * 65535).round().long().numpy()
        inside = index > 0
        np.testing.assert_array_equal(organs.numpy()[inside], mask.ravel()[index[inside]])
        seen.add((int(index[0, 3, 0]), int(index[0, 3, 1])))
    assert len(seen) > 15
    again = [
        recipe.inputs(reader(places), row(places), generator=np.random.default_rng(3))["image"]
        for _ in range(2)
    ]
    assert again[0].equal(again[1])


def test_flips_have_their_probability() -> None:
    prepared = recipe_of().prepare(thorax((1.0, 1.0, 2.0)))
    never, always = (
        recipe_of(size=(4, 6, 9), flip_prob=prob).inputs(
            reader(prepared), row(prepared), generator=np.random.default_rng(0)
        )
        for prob in (0.0, 1.0)
    )
    assert always["image"].equal(never["image"].flip((1, 2, 3)))
    assert always["anatomy_mask"].equal(never["anatomy_mask"].flip((0, 1, 2)))


def test_the_mask_must_be_there_and_of_the_scan() -> None:
    scan = thorax()
    with pytest.raises(ValueError, match="has no anatomy_mask: segment it first"):
        recipe_of().prepare(replace(scan, companions={}))
    empty = replace(scan.companions["anatomy_mask"], array=np.zeros((6, 10, 12), np.uint8))
    with pytest.raises(ValueError, match="has none of lung, heart"):
        recipe_of().prepare(replace(scan, companions={"anatomy_mask": empty}))
    with pytest.raises(ValueError, match="MR scan"):
        recipe_of().prepare(replace(scan, modality="MR"))


def test_an_anatomy_that_vanishes_is_a_fact_and_a_published_error() -> None:
    scan = thorax((1.0, 1.0, 2.0))
    labels = np.zeros(scan.array.shape, np.uint8)
    labels[2:5, 4:7, 7:9] = 11
    labels[2, 5, 3] = 51  # one voxel, between those that a spacing of 2 mm takes
    mask = replace(scan.companions["anatomy_mask"], array=labels)
    scan = replace(scan, companions={"anatomy_mask": mask})
    coarse = {"spacing_mm": (4.0, 2.0, 2.0)}
    prepared = recipe_of(**coarse).prepare(scan)
    assert prepared.facts["anatomies_lost"] == ["heart"]
    assert prepared.facts["anatomy_voxels"]["heart"] == 0
    with pytest.raises(ValueError, match="heart vanished"):
        recipe_of(**coarse, compat="published").prepare(scan)


@pytest.mark.parametrize(
    ("rule", "values", "expected"),
    [
        (Rescale(1.0, -1024.0), [0, 2000], [-1024, 976]),
        (Rescale(1.5, -10.7), [100], [90]),  # slope 1, intercept -10
        (Rescale(20.0, 3.9), [2000], [-25533]),  # 40003 - 65536
        (Rescale(2.0, -40000.0), [0, 100], [25536, 25736]),
    ],
)
def test_published_int16_by_hand(rule: Rescale, values: list[int], expected: list[int]) -> None:
    array = np.array([[values]], np.int16)
    assert published_hounsfield(array, rule).ravel().tolist() == expected


@pytest.mark.parametrize("dtype", [np.int16, np.uint16, np.int32, np.float32])
@pytest.mark.parametrize("rule", [(1.0, -8192.0), (1.5, -10.7), (-1.5, 70000.5), (20.0, -40000.0)])
def test_published_int16_is_what_simpleitk_makes(dtype: type, rule: tuple[float, float]) -> None:
    itk = pytest.importorskip("SimpleITK")
    array = np.random.default_rng(0).integers(0, 4000, (3, 4, 5)).astype(dtype)
    image = itk.Cast(itk.GetImageFromArray(array) * rule[0] + rule[1], itk.sitkInt16)
    ours = published_hounsfield(array, Rescale(*rule))
    np.testing.assert_array_equal(ours, itk.GetArrayFromImage(image))


def test_rescale_rules_are_checked_and_fractions_count_by_default() -> None:
    scan = thorax((1.0, 1.0, 2.0))
    raw = replace(scan, array=scan.array + np.int16(1024), rescale=Rescale(1.0, -1024.0))
    expected = recipe_of().prepare(scan).arrays["image"]
    np.testing.assert_array_equal(recipe_of().prepare(raw).arrays["image"], expected)
    with pytest.raises(ValueError, match="intercept is missing"):
        recipe_of().prepare(replace(raw, rescale=Rescale()))


def test_hash_depends_on_every_field_but_the_flips() -> None:
    changes = [
        {"size": (4, 6, 7)},
        {"spacing_mm": (2.0, 1.0, 1.5)},
        {"window_hu": (-1000.0, 400.0)},
        {"mask": AnatomyMask({"heart": [51], "lung": [10, 11]})},
        {"mask": AnatomyMask(ORGANS, "index")},
        {"margin": (1, 2, 3)},
        {"orientation": "SAR"},
        {"compat": "published"},
    ]
    hashes = {recipe_of(**change).hash for change in changes} | {recipe_of().hash}
    assert len(hashes) == len(changes) + 1
    assert recipe_of(flip_prob=0.0).hash == recipe_of().hash


@pytest.mark.parametrize(
    "change",
    [
        {"size": (0, 6, 6)},
        {"window_hu": (5.0, 5.0)},
        {"margin": (-1, 0, 0)},
        {"flip_prob": 1.5},
        {"orientation": "XX"},
    ],
)
def test_impossible_recipes(change: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        recipe_of(**change)
