import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from medvlp.data.lesion_augmentation import LesionAugmentation
from medvlp.data.lesion_recipe import LesionRecipe, PatchChannel, PatchGrid
from medvlp.data.scan import Rescale, Scan, orientation_of

CT = PatchChannel("image", 40.0, 200.0, clip=True)
PET = PatchChannel("pet", 3.0, 3.0)
LESION = PatchChannel("lesion_mask")


def scan_of(array: np.ndarray, spacing: float, corner: float, **options: Any) -> Scan:
    affine = np.diag([-spacing, -spacing, spacing, 1.0])
    affine[:3, 3] = (-corner, -corner, corner)
    return Scan(array, affine, (spacing,) * 3, orientation_of(affine), **options)


@pytest.fixture
def study() -> Scan:
    """A body of 40 mm: CT at 1 mm, PET at 2 mm from another origin, mask on the PET's lattice."""
    ct = np.full((40, 40, 40), -1000, np.int16)
    ct[4:36, 4:36, 4:36] = 50
    suv, mask = np.full((22, 22, 22), 0.5, np.float32), np.zeros((22, 22, 22), np.uint8)
    suv[8:11, 8:11, 8:11], mask[8:11, 8:11, 8:11] = 12.0, 2
    mask[16, 16, 16] = 7
    beside = {"pet": scan_of(suv, 2.0, -1.0), "lesion_mask": scan_of(mask, 2.0, -1.0)}
    return scan_of(ct, 1.0, 0.0, companions=beside)


def recipe_of(*channels: PatchChannel, **options: Any) -> LesionRecipe:
    grids = {
        "coarse": PatchGrid([10, 10, 12], [2.0, 2.0, 2.0]),
        "fine": PatchGrid([8] * 3, [1.0] * 3),
    }
    return LesionRecipe(channels or (CT, PET, LESION), **{**grids, **options})


def inputs_of(recipe: LesionRecipe, scan: Scan, **options: Any) -> dict[str, np.ndarray]:
    prepared = recipe.prepare(scan)
    row = {"shape": list(prepared.arrays["image"].shape), **prepared.facts}
    target = {"lesion_id": "001", "box_mm": [17.0, 17.0, 17.0, 6.0, 6.0, 6.0], "label": 0}

    def read(name: str, region: Any) -> np.ndarray:
        return prepared.arrays[name] if region is None else prepared.arrays[name][region]

    made = recipe.inputs(read, row, **{"target": target, **options})
    return {name: tensor.numpy() for name, tensor in made.items()}


def test_each_volume_is_stored_as_it_lies(study: Scan) -> None:
    prepared = recipe_of().prepare(study)
    assert {name: (a.shape, a.dtype.name) for name, a in prepared.arrays.items()} == {
        "image": ((40, 40, 40), "int16"),
        "pet": ((22, 22, 22), "float16"),
        "lesion_mask": ((22, 22, 22), "uint8"),
    }
    grid = prepared.facts["grids"]["pet"]
    assert grid["shape"] == [22, 22, 22]
    # index (d, h, w) to RAS: d upwards, h to the back, w to the left
    assert (np.array(grid["affine"]) @ [1, 2, 3, 1]).tolist() == [1.0 - 6.0, 1.0 - 4.0, -1.0 + 2, 1]


def test_patches_of_a_lesion_by_hand(study: Scan) -> None:
    patches = inputs_of(recipe_of(), study)
    assert patches["lesion_coarse"].shape == (3, 10, 10, 12)
    assert patches["lesion_fine"].shape == (3, 8, 8, 8)
    np.testing.assert_array_equal(patches["image"], patches["lesion_coarse"])
    ct, pet, lesion = patches["lesion_fine"]
    # sample 4 is the centre at 17 mm: voxel 17 of the CT, 9 of the PET
    assert ct[4, 4, 4] == np.float32(10 / 200) and pet[4, 4, 4] == 3.0
    # the lesion of 6 mm covers samples 1 to 6 (14 to 19 mm); half a voxel is inside at 1 only
    assert lesion.sum() == 6**3 and lesion[1, 1, 1] == 1 and lesion[7, 4, 4] == 0
    assert (patches["lesion_coarse"][2] > 0).sum() == 3**3


def test_channels_may_be_fewer(study: Scan) -> None:
    recipe = recipe_of(CT, LESION)
    assert recipe.fields == ("image", "lesion_mask") and recipe.companions == ("lesion_mask",)
    assert inputs_of(recipe, study)["lesion_fine"].shape == (2, 8, 8, 8)
    alone = recipe_of(CT, coarse=None)
    assert list(inputs_of(alone, study)) == ["image", "lesion_fine"] and alone.size == (8, 8, 8)


def test_mr_is_normalised_by_its_own_numbers(study: Scan) -> None:
    generator = np.random.default_rng(0)
    values = np.where(study.array > 0, generator.normal(700, 90, study.array.shape), 0)
    mr = scan_of(values.astype(np.float32), 1.0, 0.0, modality="MR", companions=study.companions)
    recipe = recipe_of(PatchChannel("image", None, None), LESION, image_dtype="float32")
    patch = inputs_of(recipe, mr)["lesion_fine"][0]
    assert abs(patch.mean()) < 0.2 and 0.8 < patch.std() < 1.2
    with pytest.raises(ValueError, match="image_dtype=float32"):
        recipe_of(PatchChannel("image", None, None), LESION).prepare(mr)


def test_augmentation_only_with_a_generator(study: Scan) -> None:
    recipe = recipe_of(augment=LesionAugmentation(rotation_prob=1.0))
    still, again = inputs_of(recipe, study), inputs_of(recipe, study)
    moved, twice = (inputs_of(recipe, study, generator=np.random.default_rng(3)) for _ in range(2))
    for name in still:
        np.testing.assert_array_equal(still[name], again[name])
        np.testing.assert_array_equal(moved[name], twice[name])
        assert not np.array_equal(still[name], moved[name])
    assert recipe.hash == recipe_of().hash  # it changes no prepared number


def test_published_patches_differ_and_so_does_the_hash(study: Scan) -> None:
    assert recipe_of(compat="published").hash != recipe_of().hash
    by_label: Mapping[str, Any] = {"box_mm": [17.0, 17.0, 17.0, 6.0, 6.0, 6.0], "label": 7}
    right = inputs_of(recipe_of(), study, target=by_label)
    # as published, the label counts in the coarse patch only
    published = inputs_of(recipe_of(compat="published"), study, target=by_label)
    assert published["lesion_fine"][2].any() and not right["lesion_fine"][2].any()


def test_what_is_stored_does_not_depend_on_how_patches_are_cut() -> None:
    stored = recipe_of().stored_hash
    wide = PatchChannel("image", 0.0, 500.0)
    same = (recipe_of(coarse=None), recipe_of(compat="published"), recipe_of(wide, PET, LESION))
    assert {recipe.stored_hash for recipe in same} == {stored}
    assert len({recipe.hash for recipe in same}) == 3
    measured = PatchChannel("image", None, None)
    for other in (recipe_of(CT), recipe_of(pet_dtype="float32"), recipe_of(measured, PET, LESION)):
        assert other.stored_hash != stored


def test_a_sample_without_a_lesion_says_what_to_set(study: Scan) -> None:
    with pytest.raises(ValueError, match="EachLesion"):
        inputs_of(recipe_of(), study, target=None)


def test_empty_lesion_channels_are_counted_in_the_log(study: Scan, caplog) -> None:
    recipe = recipe_of()
    empty = {"lesion_id": "9", "box_mm": [6.0, 6.0, 6.0, 2.0, 2.0, 2.0]}
    with caplog.at_level(logging.WARNING):
        for _ in range(6):
            inputs_of(recipe, study, target=empty)
    assert [record.args[0] for record in caplog.records] == [1, 10]
    assert "lesion 9 at [6.0, 6.0, 6.0] mm" in caplog.messages[0]


def replaced(study: Scan, name: str, array: np.ndarray, corner: float = -1.0) -> Scan:
    companions = {**study.companions, name: scan_of(array, 2.0, corner)}
    return scan_of(study.array, 1.0, 0.0, companions=companions)


def of_ct(study: Scan, array: np.ndarray) -> Scan:
    return scan_of(array, 1.0, 0.0, companions=study.companions)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda s: replaced(s, "pet", np.full((9,) * 3, 9e4, np.float32)), "activity, not SUV"),
        (lambda s: replaced(s, "pet", np.zeros((9,) * 3, np.float32)), "nothing above 0"),
        (lambda s: replaced(s, "pet", np.full((9,) * 3, -900.0, np.float32)), "is this the CT"),
        (lambda s: of_ct(s, s.array - s.array.min()), "raw numbers|lowest value is"),
        (lambda s: of_ct(s, (s.array > 0).astype(np.float32)), "runs from 0 to 1: these are grey"),
        (lambda s: of_ct(s, np.clip(s.array, 0, 255).astype(np.uint8)), "not HU"),
        (lambda s: replaced(s, "pet", np.ones((9,) * 3, np.float32), 500.0), "do not meet"),
        (lambda s: replaced(s, "lesion_mask", np.full((9,) * 3, 0.5, np.float32)), "fractions"),
        (lambda s: replaced(s, "lesion_mask", np.full((9,) * 3, -1, np.int16)), "from -1 to -1"),
        (lambda s: scan_of(s.array, 1.0, 0.0), "needs pet and lesion_mask"),
        (
            lambda s: scan_of(
                s.array, 1.0, 0.0, companions=s.companions, rescale=Rescale(1.0, -1024.0)
            ),
            "a second time",
        ),
    ],
)
def test_volumes_that_cannot_be_right(study: Scan, spoil, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        recipe_of().prepare(spoil(study))


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (np.full((9,) * 3, 80.0, np.float32), "80: is this SUV"),
        (np.ones((9,) * 3, np.uint8), "whole"),
    ],
)
def test_unusual_uptake_is_told(study: Scan, caplog, values: np.ndarray, told: str) -> None:
    recipe_of().prepare(study)
    assert not caplog.messages
    recipe_of().prepare(replaced(study, "pet", values))
    assert told in caplog.messages[0]


def test_many_lesions_need_larger_integers(study: Scan) -> None:
    mask = np.zeros((22, 22, 22), np.int32)
    mask[3, 3, 3] = 300
    stored = recipe_of().prepare(replaced(study, "lesion_mask", mask)).arrays["lesion_mask"]
    assert stored.dtype == np.uint16 and stored.max() == 300


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: recipe_of(PET, LESION), "expected 'image'"),
        (lambda: recipe_of(CT, CT), "at most once"),
        (lambda: recipe_of(coarse=None, fine=None), "at least one"),
        (lambda: PatchGrid([8, 8], [1.0, 1.0]), "three positive numbers"),
        (lambda: PatchChannel("image", None, 2.0), "null for both"),
    ],
)
def test_senseless_settings_are_refused(build, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()
