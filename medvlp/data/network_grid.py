"""Bring what a network says of its input back onto the grid of the scan that was read."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Float32

from medvlp.data.brain_recipe import BrainRecipe
from medvlp.data.ct_recipe import CTRecipe
from medvlp.data.recipe import Recipe
from medvlp.data.scan import Scan, reorient
from medvlp.types import Size3D


class AxisMap(NamedTuple):
    """Along one axis, `stored index = step * network index + start`."""

    step: float
    start: float


def stored_axes(recipe: Recipe, shape: Size3D) -> tuple[AxisMap, AxisMap, AxisMap]:
    """Say where in a stored volume the voxels of the network's input lie.

    Args:
        recipe: Of the network.
        shape: Of the stored image (d, h, w).

    Raises:
        ValueError: If it is not known how the recipe places volumes.

    >>> recipe = CTRecipe([4, 4, 4], [1.0, 1.0, 1.0], window_hu=[0.0, 1.0], mean=0.0, std=1.0)
    >>> stored_axes(recipe, (6, 3, 4))[:2]
    (AxisMap(step=1.0, start=1.0), AxisMap(step=1.0, start=0.0))
    """
    if isinstance(recipe, CTRecipe):
        if recipe.fit == "resize":
            depth, height, width = (
                _scaled(length, size) for length, size in zip(shape, recipe.size, strict=True)
            )
        else:
            depth, height, width = (
                _centred(length, size) for length, size in zip(shape, recipe.size, strict=True)
            )
        return depth, height, width
    if isinstance(recipe, BrainRecipe):
        side = max(shape[1:])
        height, width = (
            _in_plane(length, side, size, recipe.resize)
            for length, size in zip(shape[1:], recipe.size[1:], strict=True)
        )
        return _scaled(shape[0], recipe.size[0]), height, width
    raise ValueError(
        f"activation maps cannot be brought back to the scan under a {type(recipe).__name__}; "
        "CTRecipe and BrainRecipe can"
    )


class ScanGrid(NamedTuple):
    """How the network's input lies in a scan.

    Attributes:
        recipe: Of the network.
        orientation: Letters of the stored image (d, h, w).
        stored_shape: Of the stored image.
        num_channels: Volumes that are stacked along the slices of the stored image.
        scan_orientation: Letters of the scan as read.
        scan_shape: Of the scan as read (d, h, w).
    """

    recipe: Recipe
    orientation: str
    stored_shape: Size3D
    num_channels: int
    scan_orientation: str
    scan_shape: Size3D

    @classmethod
    def of(
        cls, recipe: Recipe, scan: Scan, shape: Sequence[int], facts: Mapping[str, Any]
    ) -> "ScanGrid":
        """Describe a prepared scan.

        Args:
            recipe: Of the network.
            scan: As read.
            shape: Of what `recipe.prepare` made of it.
            facts: What it said.
        """
        letters = str(facts.get("orientation") or getattr(recipe, "orientation", ""))
        depth, height, width = shape
        scan_depth, scan_height, scan_width = scan.array.shape[-3:]
        return cls(
            recipe,
            letters,
            (depth, height, width),
            int(facts.get("num_channels", 1)),
            scan.orientation,
            (scan_depth, scan_height, scan_width),
        )

    def to_scan(self, values: Float[np.ndarray, "D H W"]) -> Float32[np.ndarray, "d h w"]:
        """Interpolate trilinearly at the voxels of the scan; 0 outside of the network's field.

        Of stacked channels, which lie behind each other in the network's input, the larger value
        of both counts.

        Args:
            values: On the network's voxels, or on a coarser grid over the same field (tokens).
        """
        view = self._turned_shape()
        parts = [
            np.asarray(_sample(values, self._indices(view, values.shape, channel)), np.float32)
            for channel in range(self.num_channels)
        ]
        back, _ = reorient(np.maximum.reduce(parts), self.orientation, self.scan_orientation)
        return np.ascontiguousarray(back)

    def to_scan_index(
        self, place: Sequence[int], size: Sequence[int]
    ) -> tuple[int, int, int] | None:
        """Return the scan's voxel nearest to a place on a grid over the network's field.

        Args:
            place: Index (d, h, w) on that grid.
            size: Of that grid.

        Returns:
            Index (d, h, w) of the scan as read; None if it lies outside of the scan.
        """
        view = self._turned_shape()
        axes = stored_axes(self.recipe, self.stored_shape)
        found = []
        for axis in range(3):
            network = _between(place[axis], size[axis], self.recipe.size[axis])
            stored = axes[axis].step * network + axes[axis].start
            length = self.stored_shape[axis] // (self.num_channels if axis == 0 else 1)
            stored = _modulo(stored, length) if axis == 0 and self.num_channels > 1 else stored
            found.append(round(_between(stored, length, view[axis])))
        if any(not 0 <= at < length for at, length in zip(found, view, strict=True)):
            return None
        marked = np.zeros(view, bool)
        marked[tuple(found)] = True
        back, _ = reorient(marked, self.orientation, self.scan_orientation)
        depth, height, width = (int(axis[0]) for axis in np.nonzero(back))
        return depth, height, width

    def field(self) -> np.ndarray:
        """Mark the voxels of the scan that the network sees."""
        return self.to_scan(np.ones(self.recipe.size, np.float32)) > 0

    def _turned_shape(self) -> Size3D:
        turned, _ = reorient(
            np.empty(self.scan_shape, np.uint8), self.scan_orientation, self.orientation
        )
        depth, height, width = turned.shape
        return depth, height, width

    def _indices(
        self, view: Size3D, size: Sequence[int], channel: int
    ) -> list[Float[np.ndarray, " n"]]:
        """Give along each axis the place of the scan's voxels on a grid of `size`."""
        places = []
        for axis, (step, start) in enumerate(stored_axes(self.recipe, self.stored_shape)):
            length = self.stored_shape[axis] // (self.num_channels if axis == 0 else 1)
            stored = _between(np.arange(view[axis]), view[axis], length)
            stored = stored + (channel * length if axis == 0 else 0)
            network = (stored - start) / step
            places.append(_between(network, self.recipe.size[axis], size[axis]))
        return places


def _between(index: Any, length: int, other: int) -> Any:
    """Translate an index between two grids over the same extent; edges stay where they are."""
    return (index + 0.5) * (other / length) - 0.5


def _modulo(index: float, length: int) -> float:
    return (index + 0.5) % length - 0.5


def _scaled(length: int, size: int) -> AxisMap:
    step = length / size
    return AxisMap(step, (step - 1) / 2)


def _centred(length: int, size: int) -> AxisMap:
    if length > size:
        return AxisMap(1.0, float((length - size) // 2))
    return AxisMap(1.0, float(-((size - length) // 2)))


def _in_plane(length: int, side: int, size: int, resize: int | None) -> AxisMap:
    """Follow padding to a square, resizing, and cutting the centre."""
    if resize is None:
        return _centred(length, size)
    scale = side / resize
    cut = (resize - size) // 2
    return AxisMap(scale, (cut + 0.5) * scale - 0.5 - (side - length) // 2)


def _sample(values: np.ndarray, places: list[np.ndarray]) -> np.ndarray:
    """Interpolate linearly along each axis; the outermost half voxel has the edge's value."""
    result = values.astype(np.float32, copy=False)
    for axis, place in enumerate(places):
        length = values.shape[axis]
        inside = (place >= -0.5) & (place <= length - 0.5)
        clipped = np.clip(place, 0, length - 1)
        low = np.floor(clipped).astype(int)
        weight = (clipped - low).astype(np.float32)
        high = np.minimum(low + 1, length - 1)
        form = [1, 1, 1]
        form[axis] = -1
        weight, mask = weight.reshape(form), inside.reshape(form)
        mixed = np.take(result, low, axis) * (1 - weight) + np.take(result, high, axis) * weight
        result = np.where(mask, mixed, np.float32(0))
    return result
