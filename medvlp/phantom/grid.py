"""The lattice a phantom is painted on: axes in millimetres, bounding boxes, the NIfTI affine."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float

from medvlp.types import Size3D, Spacing3D

Point = tuple[float, float, float]
"""Millimetres towards the head, the back and the patient's left (z, y, x)."""

Box = tuple[slice, slice, slice]
Axes = tuple[
    Float[np.ndarray, "d 1 1"],
    Float[np.ndarray, "1 h 1"],
    Float[np.ndarray, "1 1 w"],
]


@dataclass(frozen=True)
class Grid:
    """A regular lattice of voxel centres.

    Attributes:
        shape: Voxels along z, y, x.
        spacing_mm: Distance of voxel centres along z, y, x.
        center_mm: Where the middle of the lattice lies in the patient.
    """

    shape: Size3D
    spacing_mm: Spacing3D
    center_mm: Point = (0.0, 0.0, 0.0)

    @property
    def axes(self) -> Axes:
        """Return the coordinates of the voxel centres, shaped to broadcast."""
        return _axes(self.shape, self.spacing_mm, self.center_mm)

    @property
    def origin_mm(self) -> Point:
        """Return the centre of the first voxel."""
        z, y, x = (
            center - (count - 1) / 2 * step
            for center, count, step in zip(self.center_mm, self.shape, self.spacing_mm, strict=True)
        )
        return z, y, x

    @property
    def edge_mm(self) -> float:
        """Return the width over which a boundary is smeared: one voxel."""
        return float(sum(self.spacing_mm) / 3)

    def box(self, low: Point, high: Point) -> Box:
        """Return the part of the lattice between two corners, clipped to the lattice."""
        slices = []
        for first, step, count, start, stop in zip(
            self.origin_mm, self.spacing_mm, self.shape, low, high, strict=True
        ):
            begin = min(max(int(np.floor((start - first) / step)), 0), count)
            end = min(max(int(np.ceil((stop - first) / step)) + 1, begin), count)
            slices.append(slice(begin, end))
        return slices[0], slices[1], slices[2]

    def cut(self, box: Box) -> Axes:
        """Return the axes within a box."""
        z, y, x = self.axes
        return z[box[0]], y[:, box[1]], x[:, :, box[2]]

    def scaled(self, factors: Point) -> "Grid":
        """Return the lattice in the coordinates of a body that is `factors` times as large."""

        def divide(values: Point) -> Point:
            z, y, x = (value / factor for value, factor in zip(values, factors, strict=True))
            return z, y, x

        return Grid(self.shape, divide(self.spacing_mm), divide(self.center_mm))

    def respaced(self, spacing_mm: Spacing3D) -> "Grid":
        """Return the lattice with other steps, over the same field to the nearest voxel."""
        depth, height, width = (
            max(1, round(count * step / wanted))
            for count, step, wanted in zip(self.shape, self.spacing_mm, spacing_mm, strict=True)
        )
        return Grid((depth, height, width), spacing_mm, self.center_mm)

    def affine(self) -> Float[np.ndarray, "4 4"]:
        """Return the map from stored indices (x, y, z) to NIfTI's RAS millimetres.

        Stored x runs to the patient's left and y to the back, as CT-RATE's files do, hence the
        two negative signs.
        """
        affine = np.diag([-self.spacing_mm[2], -self.spacing_mm[1], self.spacing_mm[0], 1.0])
        z, y, x = self.origin_mm
        affine[:3, 3] = (-x, -y, z)
        return affine


@lru_cache(maxsize=16)
def _axes(shape: Size3D, spacing_mm: Spacing3D, center_mm: Point) -> Axes:
    z, y, x = (
        ((np.arange(count) - (count - 1) / 2) * step + center).astype(np.float32)
        for count, step, center in zip(shape, spacing_mm, center_mm, strict=True)
    )
    return z[:, None, None], y[None, :, None], x[None, None, :]
