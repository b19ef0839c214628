"""Scan a painted head: any plane, thickness, obliqueness and gantry tilt, by one affine."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8

from medvlp.phantom.head_study import PaintedHead
from medvlp.phantom.head_tissues import intensity
from medvlp.types import Size3D

_MAX_SUBSLICES = 4
_NORMALS = {"axial": (0, 1, 2), "coronal": (1, 0, 2), "sagittal": (2, 0, 1)}
"""World axes (z, y, x) along slices, rows and columns."""


@dataclass(frozen=True)
class Lattice:
    """Where the voxels of a scan lie.

    Attributes:
        size: Voxels along (slices, rows, columns).
        affine: 4x4, from (column, row, slice) to NIfTI's RAS millimetres.
    """

    size: Size3D
    affine: Float[np.ndarray, "4 4"]

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Return the distance of voxel centres along (slices, rows, columns)."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(z), float(y), float(x)


@dataclass(frozen=True)
class Look:
    """How a scanner renders what it sees.

    Attributes:
        noise: Standard deviation in units of the contrast.
        gain: Factor on MR signal; scanners have no common unit.
        bias: Strength of the slow change of MR signal over the field of view.
        stripped: Whether scalp and skull were taken away, as some data sets do.
    """

    noise: float
    gain: float = 1.0
    bias: float = 0.0
    stripped: bool = False


def lattice(
    plane: str,
    extent_mm: Sequence[float],
    spacing_mm: Sequence[float],
    *,
    tilt_deg: float = 0.0,
    gantry_deg: float = 0.0,
    center_mm: Sequence[float] = (0.0, 0.0, 0.0),
    flip: Sequence[bool] = (False, False, False),
) -> Lattice:
    """Lay the slices of a scan through a head.

    Args:
        plane: axial, coronal or sagittal.
        extent_mm: What is covered along (slices, rows, columns).
        spacing_mm: Along the same.
        tilt_deg: Turns the whole stack about the patient's left-right axis: an oblique scan.
        gantry_deg: Turns the slices but not the direction in which they follow each other: a
            sheared stack, as a tilted CT gantry makes. Axial scans only.
        center_mm: Middle of the stack along (z up, y to the back, x to the left).
        flip: Which of the three axes run the other way; without, slices run upwards or to the
            back, rows to the back or upwards, columns to the patient's left.
    """
    size = tuple(
        max(1, round(extent / step)) for extent, step in zip(extent_mm, spacing_mm, strict=True)
    )
    turn, slanted = _about_x(tilt_deg), _about_x(tilt_deg + gantry_deg)
    columns = []
    for place, axis in enumerate(_NORMALS[plane]):
        rotation = slanted if place == 1 else turn
        direction = rotation[:, axis] * spacing_mm[place] * (-1.0 if flip[place] else 1.0)
        columns.append(direction)
    steps = np.stack(columns, axis=1)  # rows z, y, x; columns slice, row, column
    first = np.asarray(center_mm) - steps @ ((np.asarray(size) - 1) / 2)
    affine = np.eye(4)
    affine[:3, :3] = steps[::-1, ::-1] * np.asarray([[-1.0], [-1.0], [1.0]])
    affine[:3, 3] = first[::-1] * np.asarray([-1.0, -1.0, 1.0])
    return Lattice((size[0], size[1], size[2]), affine)


def take(
    painted: PaintedHead, contrast: str, where: Lattice, look: Look, rng: np.random.Generator
) -> Float[np.ndarray, "d h w"]:
    """Scan a head: thick slices average over their thickness.

    Args:
        painted: The head.
        contrast: One of those that were painted.
        where: The lattice.
        look: Noise, gain, and whether the skull is there.
        rng: Source of noise.

    Returns:
        HU for "ct", else signal of at least 0.
    """
    values = painted.values[painted.contrasts.index(contrast)]
    air = np.float32(intensity("air", contrast))
    if look.stripped:
        values = air + (values - air) * painted.brain
    scan = air + _sample(painted, values - air, where)
    noise = rng.standard_normal(scan.shape, dtype=np.float32)
    noise *= np.float32(look.noise)
    if contrast == "ct":
        scan += noise
        return scan
    taken_away = scan < 1 if look.stripped else None
    if look.bias:
        scan *= 1 + _slow_change(scan.shape, look.bias, rng)
    scan += noise
    # the other half of Rician noise: the same numbers elsewhere, which costs nothing to draw
    scan = np.hypot(scan, noise[::-1, ::-1, ::-1], out=scan)
    scan *= np.float32(look.gain)
    if taken_away is not None:
        scan[taken_away] = 0
    return scan


def take_mask(painted: PaintedHead, which: str, where: Lattice) -> UInt8[np.ndarray, "d h w"]:
    """Take the ids of "organs" or "findings" on the lattice of a scan."""
    ids = {"organs": painted.organs, "findings": painted.findings}[which]
    axes = _upright_axes(where)
    if axes is None:
        points = _points(painted, where)
        volume = torch.from_numpy(ids.astype(np.float32))[None, None]
        sampled = F.grid_sample(volume, points, mode="nearest", align_corners=True)
        return sampled[0, 0].numpy().astype(np.uint8)
    padded = np.pad(ids, 1)  # whatever lies outside is background
    places = [np.zeros(0, np.int64)] * 3
    for axis, (world, start, step) in enumerate(axes):
        index = np.rint(
            _reference_index(painted, world, start + step * np.arange(where.size[axis]))
        )
        places[world] = np.clip(index + 1, 0, ids.shape[world] + 1).astype(np.int64)
    picked = padded[np.ix_(*places)]
    return np.ascontiguousarray(picked.transpose([world for world, _, _ in axes]))


def _slow_change(
    shape: tuple[int, ...], strength: float, rng: np.random.Generator
) -> Float[np.ndarray, "d h w"]:
    slopes = rng.normal(0, strength, 3).astype(np.float32)
    z, y, x = (
        slope * np.linspace(-1, 1, length, dtype=np.float32)
        for slope, length in zip(slopes, shape, strict=True)
    )
    return z[:, None, None] + y[None, :, None] + x[None, None, :]


def _about_x(angle_deg: float) -> Float[np.ndarray, "3 3"]:
    """Rotate about the left-right axis; rows and columns are z, y, x."""
    c, s = np.cos(np.deg2rad(angle_deg)), np.sin(np.deg2rad(angle_deg))
    return np.asarray([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def _to_phantom(where: Lattice) -> tuple[Float[np.ndarray, "3 3"], Float[np.ndarray, "3"]]:
    """Return the steps (rows z, y, x; columns slice, row, column) and the first voxel."""
    signs = np.asarray([1.0, -1.0, -1.0])
    steps = where.affine[:3, :3][::-1, ::-1] * signs[:, None]
    return steps, where.affine[:3, 3][::-1] * signs


def _upright_axes(where: Lattice) -> list[tuple[int, float, float]] | None:
    """Return world axis, start and step of each scan axis; None if the lattice is turned."""
    steps, first = _to_phantom(where)
    axes = np.abs(steps).argmax(0)
    straight = steps[axes, range(3)]
    if np.abs(steps).sum() - np.abs(straight).sum() > 1e-6:
        return None
    return [(int(a), float(first[a]), float(step)) for a, step in zip(axes, straight, strict=True)]


def _reference_index(
    painted: PaintedHead, world: int, mm: Float[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    return (mm - painted.grid.origin_mm[world]) / painted.grid.spacing_mm[world]


def _offsets(painted: PaintedHead, where: Lattice) -> list[float]:
    """Return where within its thickness a slice is sampled, as a share of it."""
    count = int(np.clip(round(where.spacing_mm[0] / painted.grid.edge_mm), 1, _MAX_SUBSLICES))
    return [(i + 0.5) / count - 0.5 for i in range(count)]


def _sample(
    painted: PaintedHead, values: Float[np.ndarray, "d h w"], where: Lattice
) -> Float[np.ndarray, "D H W"]:
    """Interpolate a volume of the reference lattice linearly; what lies outside it is 0."""
    offsets = _offsets(painted, where)
    axes = _upright_axes(where)
    if axes is None:
        points = _points(painted, where)
        steps, _ = _to_phantom(where)
        half = (np.asarray(painted.grid.shape) - 1) * painted.grid.spacing_mm / 2
        along = torch.from_numpy((steps[:, 0] / half)[::-1].astype(np.float32).copy())
        volume = torch.from_numpy(values)[None, None]
        parts = [
            F.grid_sample(volume, points + along * offset, align_corners=True)[0, 0]
            for offset in offsets
        ]
        return (sum(parts[1:], parts[0]) / len(parts)).numpy()
    weights = [np.zeros((0, 0), np.float32)] * 3
    for axis, (world, start, step) in enumerate(axes):
        places = start + step * np.arange(where.size[axis])
        shifts = offsets if axis == 0 else [0.0]
        parts = [_hats(painted, world, places + step * shift) for shift in shifts]
        weights[world] = (sum(parts[1:], parts[0]) / len(parts)).astype(np.float32)
    result = values
    for matrix in weights:
        # each product puts its new axis last, so after three of them the order is z, y, x again
        result = np.tensordot(result, matrix, axes=(0, 1))
    return np.ascontiguousarray(result.transpose([world for world, _, _ in axes]))


def _hats(
    painted: PaintedHead, world: int, mm: Float[np.ndarray, " n"]
) -> Float[np.ndarray, "n m"]:
    """Return the weights of linear interpolation, a row for each place."""
    index = _reference_index(painted, world, mm)
    lattice_index = np.arange(painted.grid.shape[world])
    return np.clip(1 - np.abs(index[:, None] - lattice_index[None]), 0, 1)


def _points(painted: PaintedHead, where: Lattice) -> torch.Tensor:
    """Give each voxel its place in the reference lattice as `grid_sample` wants it: x, y, z."""
    steps, first = _to_phantom(where)
    half = (np.asarray(painted.grid.shape) - 1) * painted.grid.spacing_mm / 2
    middle = np.asarray(painted.grid.origin_mm) + half
    start = ((first - middle) / half)[::-1].astype(np.float32).copy()
    scale = (steps / half[:, None])[::-1].astype(np.float32).copy()
    k, j, i = (torch.arange(n, dtype=torch.float32) for n in where.size)
    moved = torch.from_numpy(scale)
    return (
        (torch.from_numpy(start) + moved[:, 0] * k[:, None, None, None])
        + moved[:, 1] * j[None, :, None, None]
        + moved[:, 2] * i[None, None, :, None]
    )[None]
