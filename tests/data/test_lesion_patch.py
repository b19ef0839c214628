from collections import Counter

import numpy as np
import pytest

from medvlp.data.lesion_augmentation import LesionAugmentation
from medvlp.data.lesion_channel import lesion_channel, lesions_in_mask
from medvlp.data.lesion_geometry import rotation_matrix
from medvlp.data.lesion_patch import Frame, Volume, frame_around, normalise, sample

LPS = np.diag([-1.0, -1.0, 1.0])


def affine_of(spacing_dhw: tuple[float, float, float], origin_ras: list[float]) -> np.ndarray:
    """Axes (d, h, w) run upwards, to the back, to the left, as in most files."""
    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2] = spacing_dhw[0], -spacing_dhw[1], -spacing_dhw[2]
    affine[:3, 3], affine[3, 3] = origin_ras, 1.0
    return affine


def reference(volume: np.ndarray, affine: np.ndarray, frame: Frame, *, linear: bool) -> np.ndarray:
    """Sample point by point, straight from the definition."""
    result = np.zeros(frame.size)
    inverse, shape = np.linalg.inv(affine), np.array(volume.shape)
    for index in np.ndindex(*frame.size):
        world = frame.origin_mm + frame.axes @ (frame.spacing_mm * index)
        q = (inverse @ [*(LPS @ world), 1.0])[:3]
        if np.any(q < -0.5) or np.any(q >= shape - 0.5):
            continue
        if not linear:
            result[index] = volume[tuple(np.clip(np.floor(q + 0.5), 0, shape - 1).astype(int))]
            continue
        q = np.clip(q, 0, shape - 1)
        low = np.minimum(np.floor(q).astype(int), np.maximum(shape - 2, 0))
        for corner in np.ndindex(2, 2, 2):
            share = np.where(corner, q - low, 1 - (q - low)).prod()
            result[index] += share * volume[tuple(np.minimum(low + corner, shape - 1))]
    return result


@pytest.fixture
def volume() -> tuple[np.ndarray, np.ndarray]:
    array = np.random.default_rng(0).normal(0, 500, (9, 11, 10)).astype(np.int16)
    return array, affine_of((3.0, 1.25, 1.0), [4.0, 7.0, -20.0])


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("interpolation", ["linear", "nearest"])
@pytest.mark.parametrize("center", [[0.0, -1.0, -8.0], [9.0, -9.0, 4.0]])
def test_sampling_follows_its_definition(volume, turned, interpolation, center) -> None:
    array, affine = volume
    turn = rotation_matrix(np.array([1.0, -2.0, 0.5]), 0.3) if turned else None
    frame = frame_around(np.array(center), np.array([0.9, 1.1, 2.3]), (7, 8, 6), axes=turn)
    found = sample(Volume.of_array(array, affine), frame, interpolation)
    expected = reference(array, affine, frame, linear=interpolation == "linear")
    assert found.shape == (7, 8, 6) and (found == 0).any() == (expected == 0).any()
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_flipped_and_permuted_volumes_give_the_same_patch(volume) -> None:
    array, affine = volume
    frame = frame_around(np.array([0.0, -1.0, -8.0]), np.array([1.0, 1.0, 2.0]), (6, 6, 6))
    wanted = sample(Volume.of_array(array, affine), frame)
    flip = np.eye(4)
    flip[2, 2], flip[2, 3] = -1, array.shape[2] - 1
    permute = np.eye(4)[:, [1, 2, 0, 3]]
    other = Volume.of_array(array[:, :, ::-1].transpose(1, 2, 0), affine @ flip @ permute)
    np.testing.assert_allclose(sample(other, frame), wanted, atol=1e-4)


def test_only_the_part_that_is_needed_is_read(volume) -> None:
    array, affine = volume
    read: list[tuple[slice, slice, slice]] = []

    def part(region: tuple[slice, slice, slice]) -> np.ndarray:
        read.append(region)
        return array[region]

    frame = frame_around(np.array([0.0, -1.0, -8.0]), np.array([1.0, 1.0, 1.0]), (2, 2, 2))
    sample(Volume(part, (9, 11, 10), affine), frame)
    assert len(read) == 1 and max(part.stop - part.start for part in read[0]) <= 3


def test_outside_is_zero_even_where_nothing_is_read(volume) -> None:
    array, affine = volume
    frame = frame_around(np.array([500.0, 0.0, 0.0]), np.ones(3), (4, 4, 4))
    for interpolation, dtype in (("linear", np.float32), ("nearest", np.int16)):
        found = sample(Volume.of_array(array + 1000, affine), frame, interpolation)
        assert not found.any() and found.dtype == dtype


def test_half_a_voxel_outside_is_inside_at_the_lower_end_only() -> None:
    line = Volume.of_array(
        np.array([[[5, 6, 7]]], np.int16), np.diag([1.0, 1.0, 1.0, 1.0])[[2, 1, 0, 3]]
    )
    # index w runs along RAS x: LPS x is -w
    places = np.array([0.5, 0.51, -2.49, -2.5])
    values = [
        sample(line, Frame(np.array([x, 0.0, 0.0]), np.ones(3), (1, 1, 1), np.eye(3))).item()
        for x in places
    ]
    assert values == [5.0, 0.0, 7.0, 0.0]


def test_a_patch_turns_about_its_centre_but_published_about_its_corner() -> None:
    center, spacing, size = np.array([10.0, -20.0, 30.0]), np.array([2.0, 2.0, 3.0]), (8, 8, 16)
    turn = rotation_matrix(np.array([0.0, 1.0, 1.0]), 0.17)

    def middle(frame: Frame) -> np.ndarray:
        return frame.origin_mm + frame.axes @ (frame.spacing_mm * np.array(size) / 2)

    np.testing.assert_allclose(middle(frame_around(center, spacing, size, axes=turn)), center)
    published = frame_around(center, spacing, size, axes=turn, compat="published")
    np.testing.assert_array_equal(published.origin_mm, center - [8, 8, 24])
    assert np.linalg.norm(middle(published) - center) > 1


def test_normalisation_by_hand() -> None:
    values = np.array([[[-1000.0, 40.0, 140.0, 3000.0]]], dtype=np.float32)
    assert normalise(values, 40.0, 200.0, clip=True).ravel().tolist() == [-1, 0, 0.5, 1]
    np.testing.assert_allclose(normalise(values, 40.0, 100.0).ravel(), [-10.4, 0, 1, 29.6])


MASK_AFFINE = affine_of((1.0, 1.0, 1.0), [0.0, 0.0, 0.0])  # LPS x, y, z are w, h, d


def channel(mask: np.ndarray, box: list[float], spacing: float, **options: object):
    frame = frame_around(np.array(box[:3]), np.full(3, spacing), (8, 8, 8))
    return lesion_channel(Volume.of_array(mask, MASK_AFFINE), frame, np.array(box), **options)


def test_the_component_in_the_box_is_kept_and_others_are_not() -> None:
    mask = np.zeros((16, 16, 16), np.uint8)
    mask[6:9, 6:9, 6:9], mask[11, 11, 11] = 4, 5
    kept = channel(mask, [7.0, 7.0, 7.0, 3.0, 3.0, 3.0], 1.0)
    assert kept.match == "spacing" and kept.mask.sum() == 27
    other = channel(mask, [11.0, 11.0, 11.0, 1.0, 1.0, 1.0], 1.0)
    assert other.match == "spacing" and other.mask.sum() == 1


def test_touching_lesions_are_told_apart_unless_published() -> None:
    mask = np.zeros((16, 16, 16), np.uint8)
    mask[6:9, 6:9, 6:8], mask[6:9, 6:9, 8:10] = 1, 2
    box = [8.5, 7.0, 7.0, 2.0, 3.0, 3.0]
    assert channel(mask, box, 1.0).mask.sum() == 18
    assert channel(mask, box, 1.0, compat="published").mask.sum() == 36


@pytest.mark.parametrize("place", [(7, 7, 7), (8, 7, 8), (8, 8, 8)])
def test_a_lesion_smaller_than_the_spacing_is_not_lost(place) -> None:
    mask = np.zeros((16, 16, 16), np.uint8)
    mask[place] = 3
    z, y, x = place
    box = [float(x), float(y), float(z), 1.0, 1.0, 1.0]
    for label in (0, 3):
        frame = frame_around(np.array([7.5, 7.5, 7.5]), np.full(3, 2.0), (6, 6, 6))
        found = lesion_channel(
            Volume.of_array(mask, MASK_AFFINE), frame, np.array(box), label=label
        )
        assert found.mask.any()


@pytest.mark.parametrize("label", [0, 3])
def test_a_lesion_smaller_than_half_the_spacing_is_marked_in_its_middle(label: int) -> None:
    mask = np.zeros((16, 16, 16), np.uint8)
    mask[7, 9, 5] = 3
    volume = Volume.of_array(mask, MASK_AFFINE)
    box = np.array([5.0, 9.0, 7.0, 1.0, 1.0, 1.0])
    frame = Frame(np.full(3, -3.0), np.full(3, 6.0), (4, 4, 4), np.eye(3))
    found = lesion_channel(volume, frame, box, label=label)
    assert found.match == "centre" and np.argwhere(found.mask).tolist() == [[1, 2, 2]]
    published = lesion_channel(volume, frame, box, label=label, compat="published")
    assert published.match == "none" and not published.mask.any()
    # nothing is made up where the mask has nothing, or the patch does not reach
    for center in ([11.0, 9.0, 7.0], [500.0, 9.0, 7.0]):
        box[:3] = center
        assert lesion_channel(volume, frame, box, label=label).match == "none"


def test_by_label_only_that_lesion_is_marked() -> None:
    mask = np.zeros((16, 16, 16), np.uint8)
    mask[6:9, 6:9, 6:8], mask[6:9, 6:9, 8:10] = 1, 2
    box = [7.0, 7.0, 7.0, 2.0, 2.0, 2.0]
    assert channel(mask, box, 1.0, label=2).mask.sum() == 18
    gone = channel(mask, box, 1.0, label=9, compat="published")
    assert gone.match == "none" and not gone.mask.any()


def test_published_numbers_are_left_where_no_component_lies_in_the_box() -> None:
    """Three components at the spacing, which at half of it are one or two: larger numbers stay."""
    mask = np.zeros((16, 16, 16), np.uint8)
    mask[4, 4, 4] = mask[4, 4, 6] = mask[4, 4, 8] = 1
    mask[4, 4, 5] = mask[4, 4, 7] = 1  # not hit by a patch of 2 mm, but joins them at 1 mm
    far = [12.0, 12.0, 12.0, 1.0, 1.0, 1.0]
    frame = Frame(np.zeros(3), np.full(3, 2.0), (8, 8, 8), np.eye(3))
    found = lesion_channel(
        Volume.of_array(mask, MASK_AFFINE), frame, np.array(far), compat="published"
    )
    # at 2 mm the samples 2, 3, 4 are neighbours: one component; remove the middle one below
    assert found.match == "none" and not found.mask.any()
    mask[4, 4, 6] = 0
    mask[4, 5, 5:8] = 1  # around the gap, between the samples of 2 mm
    found = lesion_channel(
        Volume.of_array(mask, MASK_AFFINE), frame, np.array(far), compat="published"
    )
    # two components at 2 mm, numbered 1 and 2; one at 1 mm: number 1 is cleared, 2 stays as 2
    assert found.match == "none"
    assert Counter(found.mask.ravel().tolist()) == {0.0: 511, 2.0: 1}
    assert found.mask[4, 2, 2] == 2.0
    right = lesion_channel(Volume.of_array(mask, MASK_AFFINE), frame, np.array(far))
    assert right.match == "none" and not right.mask.any()


def test_augmentation_draws_within_its_ranges() -> None:
    augment, generator = LesionAugmentation(), np.random.default_rng(0)
    draws = [augment.draw(generator) for _ in range(2000)]
    shifts = np.array([draw.shift_mm for draw in draws])
    assert np.abs(shifts).max() <= 3 and np.abs(shifts).max() > 2.9 and np.ptp(shifts[0]) > 0
    factors = np.array([draw.magnification for draw in draws])
    assert (factors == factors[:, :1]).all()
    scaled = factors[:, 0] != 1
    assert 0.45 < scaled.mean() < 0.55
    assert 0.8 <= factors.min() < 0.81 and 1.19 < factors.max() <= 1.2
    turns = [draw.axes for draw in draws if draw.axes is not None]
    assert 0.45 < len(turns) / len(draws) < 0.55
    angles = np.rad2deg(np.arccos([(np.trace(turn) - 1) / 2 for turn in turns]))
    assert angles.max() <= 10 and 4.5 < angles.mean() < 5.5
    # axes in all directions: the antisymmetric part points along them
    axes = np.array([[t[2, 1] - t[1, 2], t[0, 2] - t[2, 0], t[1, 0] - t[0, 1]] for t in turns])
    directions = axes / np.linalg.norm(axes, axis=1, keepdims=True)
    assert np.abs(directions.mean(axis=0)).max() < 0.08
    np.testing.assert_allclose((directions**2).mean(axis=0), 1 / 3, atol=0.05)


def test_augmentation_repeats_for_a_seed_and_may_scale_each_axis() -> None:
    augment = LesionAugmentation(scale_prob=1.0, isotropic=False)
    first, second = (augment.draw(np.random.default_rng(5)) for _ in range(2))
    np.testing.assert_array_equal(first.shift_mm, second.shift_mm)
    assert len(set(first.magnification)) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rotation_prob": 1.5}, "expected 0 to 1"),
        ({"scale_range": (1.2, 0.8)}, "two factors"),
        ({"max_shift_mm": -1.0}, "0 or more"),
    ],
)
def test_senseless_augmentation_is_refused(options, message) -> None:
    with pytest.raises(ValueError, match=message):
        LesionAugmentation(**options)


def test_lesions_of_a_mask_without_a_table() -> None:
    mask = np.zeros((8, 8, 8), np.uint8)
    mask[1, 1, 1], mask[4:6, 2, 2:4], mask[4:6, 2, 4] = 9, 3, 5  # the last two touch
    affine = np.diag([-1.0, -2.0, 3.0, 1.0])
    right, kept = lesions_in_mask(mask, affine)
    assert [lesion.label for lesion in right] == [3, 5, 9] and kept is mask
    assert right[0].box_mm == (2.5, 4.0, 13.5, 2.0, 2.0, 6.0)
    assert right[2].box_mm == (1.0, 2.0, 3.0, 1.0, 2.0, 3.0)
    published, kept = lesions_in_mask(mask, affine, compat="published")
    assert [lesion.label for lesion in published] == [1, 2] and kept is mask  # numbers, not values
    assert published[0].box_mm == (1.5, 3.0, 4.5, 1.0, 2.0, 3.0)  # half a voxel too far
    flipped, _ = lesions_in_mask(mask[:, :, ::-1], affine @ np.diag([-1.0, 1, 1, 1]))
    assert flipped[2].box_mm == (-6.0, 2.0, 3.0, 1.0, 2.0, 3.0)


def test_components_of_one_value_are_told_apart_by_their_numbers() -> None:
    """A voxel in the middle of a ring, whose box holds it: by boxes the ring would be marked."""
    mask = np.zeros((9, 9, 9), np.uint8)
    mask[1:8, 1:8, 4] = 1
    mask[2:7, 2:7, 4], mask[4, 4, 4] = 0, 1
    (one, other), numbered = lesions_in_mask(mask, np.diag([-1.0, -1.0, 1.0, 1.0]))
    assert [one.label, other.label] == [1, 2] and set(np.unique(numbered)) == {0, 1, 2}
    volume = Volume.of_array(numbered, MASK_AFFINE)
    frame = frame_around(np.array(other.box_mm[:3]), np.full(3, 1.0), (8, 8, 8))
    found = lesion_channel(volume, frame, np.array(other.box_mm), label=other.label)
    assert np.argwhere(found.mask).tolist() == [[4, 4, 4]]
