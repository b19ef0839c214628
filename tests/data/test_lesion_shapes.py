"""Boxes as masks on a scan, and what lies in a body, against shapes that are known."""

import numpy as np
import pytest

from medvlp.data.lesion_shapes import BodyOutline, lesion_masks, lies_inside, mask_within
from medvlp.data.scan import Scan, orientation_of

TURN = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])


def scan(affine: np.ndarray, array: np.ndarray) -> Scan:
    i, j, k = np.linalg.norm(affine[:3, :3], axis=0).tolist()
    return Scan(array, affine, (k, j, i), orientation_of(affine))


def affine_of(directions: np.ndarray) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = directions * [1.0, 1.0, 2.0]
    affine[:3, 3] = [5.0, -7.0, 3.0]
    return affine


@pytest.mark.parametrize("directions", [np.eye(3), np.diag([-1.0, -1, 1]), TURN, -TURN])
def test_an_ellipsoid_has_its_volume_and_centre(directions: np.ndarray) -> None:
    affine = affine_of(directions)
    ct = scan(affine, np.zeros((20, 36, 40), np.int16))
    x, y, z = (affine @ [20.0, 18, 10, 1])[:3] * [-1, -1, 1]
    ((mask, values),) = lesion_masks(ct, [(x, y, z, 20.0, 12.0, 16.0)])
    assert values == {0: 1} and mask.array.shape == ct.array.shape
    inside = np.argwhere(mask.array == 1)
    assert inside.mean(axis=0) == pytest.approx([10, 18, 20])
    assert len(inside) * 2 == pytest.approx(np.pi / 6 * 20 * 12 * 16, rel=0.05)
    turned = abs(directions[0, 0]) < 0.5
    assert np.ptp(inside, axis=0)[2] == pytest.approx(12 if turned else 20, abs=1)


def test_boxes_that_overlap_lie_in_masks_of_their_own() -> None:
    ct = scan(np.diag([-1.0, -1, 2, 1]), np.zeros((20, 36, 40), np.int16))
    boxes = [
        (10.0, 10.0, 10.0, 8.0, 8.0, 8.0),
        (13.0, 10.0, 10.0, 8.0, 8.0, 8.0),
        (30.0, 30.0, 30.0, 0.2, 0.2, 0.2),
        (500.0, 0.0, 0.0, 9.0, 9.0, 9.0),
    ]
    first, second = lesion_masks(ct, boxes)
    assert first[1] == {0: 1, 2: 2, 3: 3} and second[1] == {1: 1}
    assert np.argwhere(first[0].array == 2).tolist() == [[15, 30, 30]]  # one voxel at the least
    assert not (first[0].array == 3).any()  # outside
    assert mask_within(first[0], boxes[0]).any()
    assert not mask_within(first[0], (20.0, 25.0, 10.0, 2.0, 2.0, 2.0)).any()
    assert lies_inside(ct, (39.0, 0.0, 0.0)) and not lies_inside(ct, (40.0, 0.0, 0.0))


def test_lungs_are_body_and_the_air_around_is_not() -> None:
    hu = np.full((20, 60, 60), -1000, np.int16)
    hu[:, 15:45, 15:45] = 40
    hu[:, 25:35, 25:35] = -900
    body = BodyOutline(scan(np.diag([-1.0, -1, 2, 1]), hu))
    assert body.holds((30.0, 30.0, 20.0)) and body.holds((16.0, 16.0, 20.0))
    assert not body.holds((2.0, 30.0, 20.0)) and not body.holds((500.0, 30.0, 20.0))
