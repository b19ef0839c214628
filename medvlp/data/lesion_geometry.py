"""Lesions as shapes: connected components, their boxes, overlap, growth, rotation.

Millimetres are those of the LPS world (ITK, DICOM). Boxes are centre x, y, z and full sides along
x, y, z. `compat="published"` repeats what the published code of HCL-AL computes (Gao et al., IEEE
TMI 2025, github.com/HerrBaum-YR/HCL-AL), quirks included; None does it right.
"""

from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

Compat = Literal["published"] | None
Box = tuple[slice, slice, slice]


class Placement(NamedTuple):
    """Where the lattice of a volume lies.

    Attributes:
        origin_mm: Centre of the voxel with index 0, 0, 0.
        spacing_mm: Along the index axes x, y, z.
        direction: Column j is the world direction of index axis j.
    """

    origin_mm: Float[np.ndarray, "3"]
    spacing_mm: Float[np.ndarray, "3"]
    direction: Float[np.ndarray, "3 3"]


def components(
    mask: Shaped[np.ndarray, "z y x"], *, by_value: bool = False
) -> tuple[Int[np.ndarray, "z y x"], list[Box]]:
    """Number the connected components of what is not zero, 26 neighbours, in raster order.

    Args:
        mask: Axes (z, y, x); x runs fastest in the raster.
        by_value: Voxels of different values are not connected (lesions that touch stay apart).
            Then components are numbered value by value.

    Returns:
        Component numbers from 1, and the box of each.

    >>> labels, boxes = components(np.array([[[1, 0, 2, 2]]]))
    >>> labels.tolist(), len(boxes)
    ([[[1, 0, 2, 2]]], 2)
    """
    from scipy.ndimage import find_objects

    labels = np.zeros(mask.shape, dtype=np.int32)
    boxes: list[Box] = []
    around = foreground_box(mask)
    if around is None:
        return labels, boxes
    kinds = _kinds(mask[around], by_value=by_value)
    for kind, part in enumerate(find_objects(kinds), start=1):
        place = _moved(part, around)
        chosen = kinds[part] == kind
        found = _numbered(chosen)
        np.copyto(labels[place], found + len(boxes), where=chosen)
        boxes += [_moved(one, place) for one in find_objects(found)]
    return labels, boxes


def foreground_box(mask: Shaped[np.ndarray, "z y x"]) -> Box | None:
    """Give the smallest box that holds all that is not zero; None if there is nothing."""
    ranges: list[slice] = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        hits = np.flatnonzero(mask.any(axis=others))
        if not len(hits):
            return None
        ranges.append(slice(int(hits[0]), int(hits[-1]) + 1))
    return ranges[0], ranges[1], ranges[2]


def boxes_mm(
    boxes: list[Box], placement: Placement, *, compat: Compat = None
) -> Float[np.ndarray, "n 6"]:
    """Turn boxes of voxels (z, y, x) into boxes in the world.

    The published rule starts at the centre, not at the corner, of the first voxel, so that every
    box lies half a voxel too far; it takes the first corner for the lower one, which is wrong
    where an axis runs downwards; and it takes the diagonal for the sides, which is wrong where
    axes are oblique. Right is the smallest box along the axes of the world that holds all voxels.
    """
    if not boxes:
        return np.zeros((0, 6))
    first = np.array([[part.start for part in reversed(box)] for box in boxes], dtype=np.float64)
    stop = np.array([[part.stop for part in reversed(box)] for box in boxes], dtype=np.float64)
    origin, spacing, direction = placement
    if compat == "published":
        start = origin + (first * spacing) @ direction.T
        end = origin + (stop * spacing) @ direction.T
        sides = np.abs(end - start)
        return np.concatenate([start + sides / 2, sides], axis=1)
    center = origin + (((first + stop - 1) / 2) * spacing) @ direction.T
    sides = ((stop - first) * spacing) @ np.abs(direction).T
    return np.concatenate([center, sides], axis=1)


def box_iou(
    boxes: Float[np.ndarray, "n 6"], other: Float[np.ndarray, "6"]
) -> Float[np.ndarray, " n"]:
    """Compute intersection over union of boxes with one other.

    Volumes are products of differences of corners, in this order: at a nominal 0.5 it is the
    rounding that decides, and published figures were made with this one.

    >>> box_iou(np.array([[0.0, 0, 0, 2, 2, 2]]), np.array([1.0, 0, 0, 2, 2, 2])).round(4).tolist()
    [0.3333]
    """
    low, high = boxes[:, :3] - boxes[:, 3:] / 2, boxes[:, :3] + boxes[:, 3:] / 2
    other_low, other_high = other[:3] - other[3:] / 2, other[:3] + other[3:] / 2
    common = np.maximum(np.minimum(high, other_high) - np.maximum(low, other_low), 0.0)
    shared = common[:, 0] * common[:, 1] * common[:, 2]
    own, others = high - low, other_high - other_low
    union = own[:, 0] * own[:, 1] * own[:, 2] + others[0] * others[1] * others[2] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=shared > 0)


def best_match(boxes: Float[np.ndarray, "n 6"], wanted: Float[np.ndarray, "6"]) -> int:
    """Give the number (from 1) of the box with the largest overlap; 0 if none overlaps."""
    if not len(boxes):
        return 0
    overlap = box_iou(boxes, wanted)
    best = int(overlap.argmax())
    return best + 1 if overlap[best] > 0 else 0


def grow(mask: Bool[np.ndarray, "z y x"], *, compat: Compat = None) -> Bool[np.ndarray, "z y x"]:
    """Add one layer of voxels.

    Published: the 6 neighbours, within the foreground's box grown by one. The box is made in the
    order (x, y, z), clamped to the sizes in the order (z, y, x), and then applied in the latter:
    of a volume that is not a cube parts are left out, or everything.

    Right: all 26 neighbours, so that of every second voxel along each axis at least one is set.
    """
    around = foreground_box(mask)
    if around is None:
        return mask.copy()
    if compat == "published":
        from scipy.ndimage import binary_dilation

        grown = mask.copy()
        window = _swapped_window(around, mask.shape)
        # neighbours outside the window count: dilate first, then cut
        grown[window] = binary_dilation(mask)[window] | mask[window]
        return grown
    grown = mask.copy()
    for axis in range(3):
        lower = (slice(None),) * axis + (slice(None, -1),)
        upper = (slice(None),) * axis + (slice(1, None),)
        before = grown.copy()
        grown[lower] |= before[upper]
        grown[upper] |= before[lower]
    return grown


def rotation_matrix(axis: Float[np.ndarray, "3"], angle_rad: float) -> Float[np.ndarray, "3 3"]:
    """Turn by an angle around an axis of any length (Rodrigues)."""
    x, y, z = axis / np.linalg.norm(axis)
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    return np.eye(3) + np.sin(angle_rad) * cross + (1 - np.cos(angle_rad)) * (cross @ cross)


def _kinds(mask: Shaped[np.ndarray, "z y x"], *, by_value: bool) -> Shaped[np.ndarray, "z y x"]:
    """Number from 1, in ascending order, the values that stay apart; 0 is 0."""
    inside = np.ascontiguousarray(mask != 0)
    if not by_value:
        return inside.astype(np.uint8)
    values, numbers = np.unique(mask[inside], return_inverse=True)
    kinds = np.zeros(mask.shape, np.min_scalar_type(len(values)))
    kinds[inside] = numbers + 1
    return kinds


def _numbered(mask: Bool[np.ndarray, "z y x"]) -> Int[np.ndarray, "z y x"]:
    from scipy.ndimage import label

    found = np.empty(mask.shape, dtype=np.int32)
    label(mask, structure=np.ones((3, 3, 3)), output=found)
    return found


def _moved(part: Box, around: Box) -> Box:
    """State a box within another one in the terms of the whole."""
    z, y, x = (
        slice(own.start + other.start, own.stop + other.start)
        for own, other in zip(part, around, strict=True)
    )
    return z, y, x


def _swapped_window(around: Box, shape: tuple[int, ...]) -> Box:
    """Build the window in the order (x, y, z), as published, though it is used as (z, y, x)."""
    first, second, third = (
        slice(max(part.start - 1, 0), min(part.stop, length - 1) + 1)
        for part, length in zip(reversed(around), shape, strict=True)
    )
    return first, second, third
