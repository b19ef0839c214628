"""Patches cut out of volumes in world coordinates: only the part that is needed is read.

A patch has axes x, y, z of the LPS world in millimetres, or that frame turned. Volumes have the
axes (d, h, w) of the cache and an affine to RAS millimetres each: CT, PET and mask may lie on
different lattices. Geometry is computed in float64, numbers in float32.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor

from medvlp.data.lesion_geometry import Compat, Placement
from medvlp.data.recipe import Region
from medvlp.types import Size3D

ReadRegion = Callable[[Region], np.ndarray]
Interpolation = Literal["linear", "nearest"]

LPS = np.diag([-1.0, -1.0, 1.0])  # from RAS and back


@dataclass(frozen=True, eq=False)
class Frame:
    """The lattice of a patch.

    Attributes:
        origin_mm: World point of sample (0, 0, 0), x y z.
        spacing_mm: Distance of samples along the axes of the patch.
        size: Number of samples along them.
        axes: Column j is the world direction of patch axis j.
    """

    origin_mm: Float[np.ndarray, "3"]
    spacing_mm: Float[np.ndarray, "3"]
    size: Size3D
    axes: Float[np.ndarray, "3 3"]

    @property
    def placement(self) -> Placement:
        """The lattice without its size."""
        return Placement(self.origin_mm, self.spacing_mm, self.axes)

    def halved(self) -> "Frame":
        """Return the frame with half the spacing and twice the samples from the same origin."""
        x, y, z = self.size
        return Frame(self.origin_mm, self.spacing_mm / 2, (2 * x, 2 * y, 2 * z), self.axes)


def frame_around(
    center_mm: Float[np.ndarray, "3"],
    spacing_mm: Float[np.ndarray, "3"],
    size: Sequence[int],
    *,
    axes: Float[np.ndarray, "3 3"] | None = None,
    compat: Compat = None,
) -> Frame:
    """Place a patch so that its sample number size/2 is the centre.

    Published: centre and spacing are rounded to float32, and a turned patch turns about its
    corner, so that its centre moves away. Right: it turns about its centre.

    Args:
        center_mm: x, y, z, LPS.
        spacing_mm: x, y, z.
        size: x, y, z.
        axes: Columns are the directions of the patch's axes; None does not turn it.
        compat: See `lesion_geometry`.
    """
    center, spacing = center_mm.astype(np.float64), spacing_mm.astype(np.float64)
    turn = np.eye(3) if axes is None else axes.astype(np.float64)
    if compat == "published":
        center, spacing = (part.astype(np.float32).astype(np.float64) for part in (center, spacing))
    half = spacing * np.asarray(size) / 2
    origin = center - (half if compat == "published" else turn @ half)
    x, y, z = (int(length) for length in size)
    return Frame(origin, spacing, (x, y, z), turn)


@dataclass(frozen=True, eq=False)
class Volume:
    """A stored volume that is read in parts.

    Attributes:
        read: Reads a region of it.
        shape: (d, h, w).
        affine: 4x4, from the index (d, h, w) to RAS millimetres.
    """

    read: ReadRegion
    shape: Size3D
    affine: Float[np.ndarray, "4 4"]

    @classmethod
    def of_array(cls, array: np.ndarray, affine: Float[np.ndarray, "4 4"]) -> "Volume":
        """Wrap an array that is in memory."""
        depth, height, width = array.shape
        return cls(array.__getitem__, (depth, height, width), affine)

    @property
    def placement(self) -> Placement:
        """Its lattice in LPS, index axes in the order x, y, z of the file (w, h, d)."""
        columns = LPS @ self.affine[:3, 2::-1]
        spacing = np.linalg.norm(columns, axis=0)
        return Placement(LPS @ self.affine[:3, 3], spacing, columns / spacing)


def sample(
    volume: Volume, frame: Frame, interpolation: Interpolation = "linear"
) -> Shaped[np.ndarray, "x y z"]:
    """Sample a volume on the lattice of a patch; 0 outside the volume.

    Outside is what lies half a voxel or more beyond the outermost centres (exactly half a voxel
    is inside at the lower end only). Within, linear interpolation holds the outermost value;
    nearest takes index floor(q + 0.5).

    Args:
        volume: Where to read.
        frame: Where to sample.
        interpolation: "nearest" keeps the type of the volume; "linear" gives float32.
    """
    matrix, offset = _index_map(volume, frame)
    block = _needed(matrix, offset, frame.size, volume.shape)
    linear = interpolation == "linear"
    if block is None:
        corner = volume.read((slice(0, 1), slice(0, 1), slice(0, 1)))
        dtype = np.dtype(np.float32) if linear else corner.dtype
        return np.zeros(frame.size, dtype)
    stored = volume.read(block)
    local = offset - [part.start for part in block]
    order = _axis_order(matrix)
    if order is None:
        patch = _sample_turned(stored, matrix, local, frame.size, linear=linear)
    else:
        patch = _sample_straight(stored, matrix, local, order, frame.size, linear=linear)
    _clear_outside(patch, matrix, offset, volume.shape)
    return patch


def normalise(
    patch: Shaped[np.ndarray, "x y z"], mean: float, std: float, *, clip: bool = False
) -> Float[np.ndarray, "x y z"]:
    """Compute (v - mean) / (std + 1e-8) in float32, clipped to [-1, 1] if told.

    >>> normalise(np.full((1, 1, 1), 640.0), 40.0, 200.0, clip=True).item()
    1.0
    """
    result = np.subtract(patch, np.float32(mean), dtype=np.float32)
    result /= np.float32(std + 1e-8)
    return np.clip(result, -1.0, 1.0, out=result) if clip else result


def volumes_of(
    read: Callable[[str, Region | None], np.ndarray], grids: Mapping[str, Mapping[str, Any]]
) -> dict[str, Volume]:
    """Make volumes of the stored fields of a scan.

    Args:
        read: Reads a field, or a region of it.
        grids: Field name to "shape" and "affine", as a manifest states them.
    """

    def part_of(name: str) -> ReadRegion:
        return lambda region: read(name, region)

    volumes: dict[str, Volume] = {}
    for name, grid in grids.items():
        depth, height, width = grid["shape"]
        affine = np.asarray(grid["affine"], np.float64)
        volumes[name] = Volume(part_of(name), (depth, height, width), affine)
    return volumes


def _index_map(volume: Volume, frame: Frame) -> tuple[np.ndarray, np.ndarray]:
    """Map sample numbers (i, j, k) to continuous indices (d, h, w) of the volume."""
    to_index = np.linalg.inv(LPS @ volume.affine[:3, :3])
    offset = to_index @ (frame.origin_mm - LPS @ volume.affine[:3, 3])
    return to_index @ (frame.axes * frame.spacing_mm), offset


def _needed(matrix: np.ndarray, offset: np.ndarray, size: Size3D, shape: Size3D) -> Region | None:
    """Give the part of the volume that samples touch; None if they all lie outside."""
    last = np.asarray(size) - 1
    low = offset + np.minimum(matrix, 0) @ last
    high = offset + np.maximum(matrix, 0) @ last
    if np.any(high < -0.5) or np.any(low >= np.asarray(shape) - 0.5):
        return None
    parts = [
        slice(max(int(np.floor(a)), 0), min(max(int(np.floor(b)) + 2, 1), length))
        for a, b, length in zip(low, high, shape, strict=True)
    ]
    return parts[0], parts[1], parts[2]


def _axis_order(matrix: np.ndarray) -> list[int] | None:
    """Tell which patch axis runs along each volume axis; None where they are oblique."""
    order = np.abs(matrix).argmax(axis=1)
    rest = matrix.copy()
    rest[range(3), order] = 0
    straight = len(set(order)) == 3 and np.abs(rest).max() <= 1e-9 * np.abs(matrix).max()
    return [int(axis) for axis in order] if straight else None


def _sample_straight(
    stored: np.ndarray,
    matrix: np.ndarray,
    offset: np.ndarray,
    order: list[int],
    size: Size3D,
    *,
    linear: bool,
) -> np.ndarray:
    """Sample axis by axis, the one that shrinks most first."""
    places = [offset[d] + matrix[d, order[d]] * np.arange(size[order[d]]) for d in range(3)]
    patch = stored
    for axis in sorted(range(3), key=lambda d: len(places[d]) / stored.shape[d]):
        last = stored.shape[axis] - 1
        if linear:
            patch = _blend(patch, np.clip(places[axis], 0, last), axis)
        else:
            patch = patch.take(np.clip(np.floor(places[axis] + 0.5), 0, last).astype(int), axis)
    return np.ascontiguousarray(patch.transpose(np.argsort(order)))


def _blend(volume: np.ndarray, place: np.ndarray, axis: int) -> Float[np.ndarray, "..."]:
    """Interpolate between neighbours along one axis."""
    lower = np.floor(place).astype(int)
    upper = np.minimum(lower + 1, volume.shape[axis] - 1)
    shape = [1, 1, 1]
    shape[axis] = len(place)
    share = (place - lower).astype(np.float32).reshape(shape)
    result = volume.take(lower, axis).astype(np.float32, copy=False)
    step = volume.take(upper, axis).astype(np.float32, copy=False)
    step -= result
    step *= share
    result += step
    return result


def _sample_turned(
    stored: np.ndarray, matrix: np.ndarray, offset: np.ndarray, size: Size3D, *, linear: bool
) -> np.ndarray:
    if linear:
        return _blend_turned(stored, matrix, offset, size)
    from scipy.ndimage import affine_transform

    return affine_transform(
        stored,
        matrix,
        offset=cast(float, offset),  # the stubs know a number only
        output_shape=size,
        output=stored.dtype,
        order=0,  # rounds half up
        mode="nearest",
        prefilter=False,
    )


def _blend_turned(
    stored: np.ndarray, matrix: np.ndarray, offset: np.ndarray, size: Size3D
) -> Float[np.ndarray, "x y z"]:
    """Interpolate among eight neighbours; a third of the time of SciPy's `affine_transform`."""
    places: list[Tensor] = []
    for row, start, length in zip(matrix, offset, stored.shape, strict=True):
        # grid_sample counts from -1 to 1 between the outermost centres
        scale = 2 / (length - 1) if length > 1 else 0.0
        x, y, z = (
            torch.arange(n, dtype=torch.float64) * (m * scale)
            for m, n in zip(row, size, strict=True)
        )
        places.append((x + (start * scale - 1))[:, None, None] + y[:, None] + z)
    grid = torch.stack(places[::-1], dim=-1)
    volume = torch.from_numpy(stored.astype(np.float64))
    patch = F.grid_sample(
        volume[None, None], grid[None], mode="bilinear", padding_mode="border", align_corners=True
    )
    return patch[0, 0].float().numpy()


def _clear_outside(
    patch: np.ndarray, matrix: np.ndarray, offset: np.ndarray, shape: Size3D
) -> None:
    """Set to 0, in place, what lies outside of the volume."""
    last = np.asarray(patch.shape) - 1
    low = offset + np.minimum(matrix, 0) @ last
    high = offset + np.maximum(matrix, 0) @ last
    for axis, length in enumerate(shape):
        if low[axis] >= -0.5 and high[axis] < length - 0.5:
            continue
        x, y, z = (m * np.arange(n) for m, n in zip(matrix[axis], patch.shape, strict=True))
        place = (x[:, None, None] + y[:, None]) + (z + offset[axis])
        patch[(place < -0.5) | (place >= length - 0.5)] = 0
