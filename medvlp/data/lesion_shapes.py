"""Lesions that are boxes on the voxels of a scan: masks of them, and whether they lie in a body."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Shaped

from medvlp.data.lesion_channel import touched
from medvlp.data.lesion_geometry import Box
from medvlp.data.lesion_patch import Volume
from medvlp.data.lesion_table import BoxMm
from medvlp.data.scan import Rescale, Scan

_AIR_HU = -300.0
_STEP_MM = 4.0  # of the outline


def lies_inside(scan: Scan, point_lps: tuple[float, float, float]) -> bool:
    """Tell whether a scan shows a point."""
    index = _index(scan, point_lps)
    return bool(np.all(index >= -0.5) and np.all(index <= np.array(scan.array.shape) - 0.5))


def mask_within(mask: Scan, box: BoxMm) -> Shaped[np.ndarray, "d h w"]:
    """Cut the part of a mask that a box touches."""
    return mask.array[_voxels(mask, box)]


def meets(scan: Scan, box: BoxMm) -> bool:
    """Tell whether a scan shows any of a box."""
    return all(part.start < part.stop for part in _voxels(scan, box))


def lesion_masks(scan: Scan, boxes: Sequence[BoxMm]) -> list[tuple[Scan, dict[int, int]]]:
    """Fill boxes with ellipsoids on the voxels of a scan; those that overlap go to further masks.

    A box too small to hold the centre of a voxel gets the voxel that it lies in.

    Returns:
        Masks, and for each the number of the box to its value in the mask. A box that lies outside
        has a value and no voxel.
    """
    masks: list[tuple[np.ndarray, dict[int, int]]] = []
    for number, box in enumerate(boxes):
        window = _voxels(scan, box)
        shape = _ellipsoid(scan, box, window)
        free = (one for one in masks if not one[0][window][shape].any())
        if (chosen := next(free, None)) is None:
            chosen = np.zeros(scan.array.shape, np.uint16), {}
            masks.append(chosen)
        array, values = chosen
        values[number] = len(values) + 1
        array[window][shape] = values[number]
    blank = replace(scan, rescale=Rescale(), companions={}, arrays={})
    return [(replace(blank, array=array), values) for array, values in masks]


class BodyOutline:
    """What of a CT is body: all above -300 HU, and what that encloses in axial slices.

    Args:
        scan: A CT.
    """

    def __init__(self, scan: Scan) -> None:
        self.scan = scan
        self._steps = [max(1, int(_STEP_MM / length)) for length in scan.spacing_mm]

    def holds(self, point_lps: tuple[float, float, float]) -> bool:
        """Tell whether a point lies in the body, or within 4 mm of it."""
        index = np.rint(_index(self.scan, point_lps) / self._steps).astype(int)
        low = np.maximum(index - 1, 0)
        d, h, w = (slice(a, b) for a, b in zip(low, np.maximum(index + 2, low), strict=True))
        return bool(self._body[d, h, w].any())

    @cached_property
    def _body(self) -> Bool[np.ndarray, "d h w"]:
        from scipy.ndimage import binary_fill_holes

        d, h, w = (slice(None, None, step) for step in self._steps)
        rule = self.scan.rescale
        body = self.scan.array[d, h, w] > (_AIR_HU - rule.intercept) / rule.slope
        axial = next(axis for axis, letter in enumerate(self.scan.orientation) if letter in "SI")
        slices = np.moveaxis(body, axial, 0)
        for plane in slices:
            plane[...] = binary_fill_holes(plane)
        return body


def _index(scan: Scan, point_lps: Sequence[float]) -> np.ndarray:
    """Map a point to the continuous index (d, h, w)."""
    x, y, z = point_lps
    return (np.linalg.inv(scan.affine) @ [-x, -y, z, 1.0])[2::-1]


def _voxels(scan: Scan, box: BoxMm) -> Box:
    volume = Volume.of_array(scan.array, scan.affine[:, [2, 1, 0, 3]])
    return touched(volume, np.array(box, np.float64))


def _ellipsoid(scan: Scan, box: BoxMm, window: Box) -> Bool[np.ndarray, "d h w"]:
    d, h, w = (np.arange(part.start, part.stop, dtype=np.float64) for part in window)
    index = np.stack(np.meshgrid(w, h, d, indexing="ij")).T  # axes (d, h, w), then i, j, k
    ras = index @ scan.affine[:3, :3].T + scan.affine[:3, 3]
    away = (ras * [-1.0, -1.0, 1.0] - box[:3]) / (np.array(box[3:]) / 2)
    distance = (away**2).sum(axis=-1)
    inside = distance <= 1
    if inside.size and not inside.any():
        inside = distance == distance.min()
    return inside
