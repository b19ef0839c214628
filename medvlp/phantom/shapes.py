"""Soft shapes: each returns the box it touches and how much of each voxel it fills (0 to 1)."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from medvlp.phantom.grid import Box, Grid, Point

Alpha = Float[np.ndarray, "d h w"]


class Patch(NamedTuple):
    """A box of the lattice and the share of each of its voxels that a shape fills."""

    box: Box
    alpha: Alpha


def ramp(depth: Float[np.ndarray, "..."], edge: float) -> Float[np.ndarray, "..."]:
    """Turn a depth below a surface into a fill share, linear over one edge width.

    Args:
        depth: Millimetres inside; negative outside. Overwritten.
        edge: Millimetres over which the share goes from 0 to 1.
    """
    depth *= np.float32(1 / edge)
    depth += np.float32(0.5)
    # two plain minima cost less than np.clip's wrapper on the small boxes that most shapes have
    np.maximum(depth, 0, out=depth)
    return np.minimum(depth, 1, out=depth)


def ellipsoid(
    grid: Grid,
    center: Point,
    radii: Point,
    *,
    rotation: Float[np.ndarray, "3 3"] | None = None,
) -> Patch:
    """Fill an ellipsoid; rows of `rotation` are its own axes in (z, y, x)."""
    reach = max(radii) if rotation is not None else None
    margin = [(reach or radius) + grid.edge_mm for radius in radii]
    box = _box_around(grid, center, margin)
    offsets = [
        axis - np.float32(middle) for axis, middle in zip(grid.cut(box), center, strict=True)
    ]
    if rotation is None:
        terms = [(offset / np.float32(r)) ** 2 for offset, r in zip(offsets, radii, strict=True)]
    else:
        rows = (rotation / np.asarray(radii)[:, None]).astype(np.float32)
        terms = [
            (row[0] * offsets[0] + row[1] * offsets[1] + row[2] * offsets[2]) ** 2 for row in rows
        ]
    square = (terms[0] + terms[1]) + terms[2]
    # (1 - q^2) / 2 times a radius is the depth to first order at the surface
    mean_radius = float(np.prod(radii)) ** (1 / 3)
    depth = (1 - square) * np.float32(mean_radius / 2)
    return Patch(box, ramp(depth, grid.edge_mm))


def tube(grid: Grid, start: Point, end: Point, radius: float, *, end_radius: float = -1) -> Patch:
    """Fill a round tube with round ends; its radius changes linearly if `end_radius` is given."""
    end_radius = radius if end_radius < 0 else end_radius
    reach = max(radius, end_radius) + grid.edge_mm
    low = tuple(min(a, b) - reach for a, b in zip(start, end, strict=True))
    high = tuple(max(a, b) + reach for a, b in zip(start, end, strict=True))
    box = grid.box((low[0], low[1], low[2]), (high[0], high[1], high[2]))
    direction = np.asarray(end) - np.asarray(start)
    length_square = float(direction @ direction) + 1e-6
    offsets = [axis - np.float32(s) for axis, s in zip(grid.cut(box), start, strict=True)]
    parts = [o * np.float32(d) for o, d in zip(offsets, direction, strict=True)]
    along = (parts[0] + parts[1]) + parts[2]
    share = along * np.float32(1 / length_square)
    np.maximum(share, 0, out=share)
    np.minimum(share, 1, out=share)
    # |o - t d|^2 = |o|^2 + t (t |d|^2 - 2 o.d)
    along *= np.float32(-2)
    along += share * np.float32(length_square)
    along *= share
    along += (offsets[0] ** 2 + offsets[1] ** 2) + offsets[2] ** 2
    distance = np.sqrt(np.maximum(along, 0, out=along), out=along)
    share *= np.float32(end_radius - radius)
    share += np.float32(radius)
    share -= distance
    return Patch(box, ramp(share, grid.edge_mm))


def metaballs(
    grid: Grid, centers: Float[np.ndarray, "n 3"], radii: Float[np.ndarray, " n"]
) -> Patch:
    """Fill the smooth union of balls: an irregular blob."""
    reach = 1.5 * radii[:, None] + grid.edge_mm
    low, high = (centers - reach).min(0), (centers + reach).max(0)
    box = grid.box(_point(low), _point(high))
    z, y, x = grid.cut(box)
    field = np.zeros((z.size, y.size, x.size), dtype=np.float32)
    for center, radius in zip(centers.astype(np.float32), radii, strict=True):
        scale = np.float32(0.7 / radius**2)
        bumps = [
            np.exp(-scale * (axis - c) ** 2) for axis, c in zip((z, y, x), center, strict=True)
        ]
        field += (bumps[0] * bumps[1]) * bumps[2]
    # a lone ball crosses exp(-0.7) at its radius, where the field falls by 0.7 per radius
    depth = (field - np.float32(np.exp(-0.7))) * np.float32(radii.mean() / 0.7)
    return Patch(box, ramp(depth, grid.edge_mm))


def filaments(
    grid: Grid, points: Float[np.ndarray, "n 3"], volumes_mm3: Float[np.ndarray, " n"]
) -> Patch:
    """Spread small volumes over the voxels around their points (thin vessels, specks, lines).

    What is thinner than a voxel then shows as the partial volume that a scanner would record.
    """
    places = (points - grid.origin_mm) / grid.spacing_mm
    corner = np.floor(places).astype(np.int64)
    inside = np.all((corner >= 0) & (corner < np.asarray(grid.shape) - 1), axis=1)
    places, corner = places[inside], corner[inside]
    if not len(places):
        return Patch((slice(0, 0), slice(0, 0), slice(0, 0)), np.zeros((0, 0, 0), dtype=np.float32))
    first, last = corner.min(0), corner.max(0) + 2
    shape = (last - first).tolist()
    high = (places - corner).T
    sides = (1 - high, high)
    amount = volumes_mm3[inside] / float(np.prod(grid.spacing_mm))
    steps = (shape[1] * shape[2], shape[2], 1)
    flat = (corner - first) @ np.asarray(steps)
    indices, weights = [], []
    for i, j, k in np.ndindex(2, 2, 2):
        weights.append(sides[i][0] * sides[j][1] * sides[k][2] * amount)
        indices.append(flat + (i * steps[0] + j * steps[1] + k))
    total = np.bincount(
        np.concatenate(indices), np.concatenate(weights), minlength=int(np.prod(shape))
    )
    alpha = total.reshape(shape).astype(np.float32)
    box = tuple(slice(*ends) for ends in zip(first.tolist(), last.tolist(), strict=True))
    return Patch((box[0], box[1], box[2]), np.minimum(alpha, 1, out=alpha))


def _box_around(grid: Grid, center: Point, margin: list[float]) -> Box:
    low = tuple(c - m for c, m in zip(center, margin, strict=True))
    high = tuple(c + m for c, m in zip(center, margin, strict=True))
    return grid.box((low[0], low[1], low[2]), (high[0], high[1], high[2]))


def _point(values: Float[np.ndarray, "3"]) -> Point:
    return float(values[0]), float(values[1]), float(values[2])
