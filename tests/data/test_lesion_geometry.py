import numpy as np
import pytest

from medvlp.data.lesion_geometry import (
    Placement,
    best_match,
    box_iou,
    boxes_mm,
    components,
    grow,
    rotation_matrix,
)


def placement(direction: np.ndarray) -> Placement:
    return Placement(np.array([10.0, 20.0, 30.0]), np.array([1.0, 2.0, 3.0]), direction)


def one_voxel_at(z: int, y: int, x: int, shape: tuple[int, int, int] = (8, 8, 8)) -> np.ndarray:
    mask = np.zeros(shape, dtype=bool)
    mask[z, y, x] = True
    return mask


def test_components_are_numbered_in_raster_order_over_26_neighbours() -> None:
    mask = np.zeros((3, 4, 5), dtype=np.uint8)
    mask[0, 0, 4] = 7  # first in raster order
    mask[0, 2, 0] = 1
    mask[1, 3, 1] = 9  # touches the second by a corner, whatever the values
    mask[2, 0, 3] = 2
    labels, boxes = components(mask)
    assert (labels[0, 0, 4], labels[0, 2, 0], labels[1, 3, 1], labels[2, 0, 3]) == (1, 2, 2, 3)
    assert boxes[1] == (slice(0, 2), slice(2, 4), slice(0, 2))
    # the layout in memory does not matter
    again, _ = components(np.asfortranarray(mask))
    np.testing.assert_array_equal(again, labels)


def test_touching_lesions_of_different_values_can_be_kept_apart() -> None:
    mask = np.array([[[2, 2, 1, 0, 1]]], dtype=np.uint8)
    assert components(mask)[0].tolist() == [[[1, 1, 1, 0, 2]]]
    assert components(mask, by_value=True)[0].tolist() == [[[3, 3, 1, 0, 2]]]


def test_an_empty_mask_has_no_components() -> None:
    labels, boxes = components(np.zeros((2, 3, 4), np.uint8))
    assert not labels.any() and boxes == []
    assert boxes_mm(boxes, placement(np.eye(3))).shape == (0, 6)
    assert best_match(np.zeros((0, 6)), np.ones(6)) == 0


def test_boxes_hold_their_voxels_and_published_ones_lie_half_a_voxel_off() -> None:
    boxes = [(slice(1, 3), slice(2, 3), slice(0, 4))]  # z, y, x
    right = boxes_mm(boxes, placement(np.eye(3)))
    assert right.tolist() == [[11.5, 24.0, 34.5, 4.0, 2.0, 6.0]]
    published = boxes_mm(boxes, placement(np.eye(3)), compat="published")
    assert (published - right).tolist() == [[0.5, 1.0, 1.5, 0.0, 0.0, 0.0]]


def test_boxes_of_flipped_axes_hold_their_voxels_only_when_not_published() -> None:
    boxes = [(slice(1, 3), slice(2, 3), slice(0, 4))]
    flipped = placement(np.diag([-1.0, -1.0, 1.0]))
    assert boxes_mm(boxes, flipped).tolist() == [[8.5, 16.0, 34.5, 4.0, 2.0, 6.0]]
    published = boxes_mm(boxes, flipped, compat="published")[0]
    assert published[0] == 10.0 + 4.0 / 2  # on the wrong side of the first corner


def test_boxes_of_oblique_axes_hold_all_corners() -> None:
    turn = rotation_matrix(np.array([0.3, -1.0, 0.5]), 0.4)
    where = placement(turn)
    box = boxes_mm([(slice(1, 3), slice(2, 3), slice(0, 4))], where)[0]
    corners = np.array(
        [[x, y, z] for x in (-0.5, 3.5) for y in (1.5, 2.5) for z in (0.5, 2.5)], dtype=float
    )
    points = where.origin_mm + (corners * where.spacing_mm) @ turn.T
    np.testing.assert_allclose(box[:3] - box[3:] / 2, points.min(0))
    np.testing.assert_allclose(box[:3] + box[3:] / 2, points.max(0))


def test_overlap_of_boxes() -> None:
    box = np.array([0.0, 0.0, 0.0, 2.0, 2.0, 2.0])
    others = np.array(
        [[0.0, 0, 0, 2, 2, 2], [1.0, 1, 0, 2, 2, 2], [2.0, 0, 0, 2, 2, 2], [0.0, 0, 0, 1, 1, 1]]
    )
    # volumes 8: all in common; 2 of 14; none where they only touch; 1 of 8
    assert box_iou(others, box).tolist() == [1.0, 2 / 14, 0.0, 1 / 8]
    assert best_match(others[1:], box) == 1
    assert best_match(others[2:3], box) == 0


@pytest.mark.parametrize("at", [(0, 0, 0), (3, 3, 3), (7, 6, 5)])
def test_a_grown_voxel_is_never_lost_by_taking_every_second(at: tuple[int, int, int]) -> None:
    grown = grow(one_voxel_at(*at))
    assert grown[::2, ::2, ::2].any()
    inner = all(0 < place < 7 for place in at)
    assert grown.sum() == 27 if inner else grown.sum() >= 8


def test_published_growth_is_cut_to_a_window_with_its_axes_swapped() -> None:
    # x 1, y 1, z 9 of a long volume: the window (x, y, z) clamped to (z, y, x) sizes misses it
    assert grow(one_voxel_at(9, 1, 1, (10, 4, 4)), compat="published").sum() == 1
    # in the middle of a cube nothing is lost
    assert grow(one_voxel_at(4, 4, 4, (9, 9, 9)), compat="published").sum() == 7
    assert not grow(np.zeros((3, 3, 3), dtype=bool), compat="published").any()


def test_rotation_about_z_takes_x_to_y() -> None:
    turn = rotation_matrix(np.array([0.0, 0.0, 7.0]), np.pi / 2)
    np.testing.assert_allclose(turn @ [1, 0, 0], [0, 1, 0], atol=1e-12)
    np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-12)
