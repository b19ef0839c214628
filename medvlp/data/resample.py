"""Trilinear resampling of a whole scan, plane by plane, without a float copy of it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, Int64, Shaped
from torch import Tensor

from medvlp.data.scan import Rescale

StoreDtype = Literal["float32", "float16", "int16"]

_DTYPES = {"float32": torch.float32, "float16": torch.float16, "int16": torch.int16}
_SLAB = 32  # planes that are transposed together: a cache line of 2-byte voxels


def resample(
    array: Shaped[np.ndarray, "d h w"],
    shape: Sequence[int],
    *,
    rescale: Rescale | None = None,
    store_dtype: StoreDtype = "float32",
    device: str = "cpu",
) -> Shaped[np.ndarray, "D H W"]:
    """Rescale a volume and resize it as `interpolate(mode="trilinear", align_corners=False)` does.

    On the CPU to the same bits, but reading only the planes that the result needs, one at a time,
    so that everything in float stays in the processor's cache.

    Args:
        array: Real numbers; a view with axes in any order and direction.
        shape: Of the result.
        rescale: Applied first; none by default.
        store_dtype: Of the result; "int16" rounds to whole numbers.
        device: Any but "cpu" holds the whole volume in float32 there.

    Raises:
        ValueError: If `store_dtype` cannot hold the values.

    >>> resample(np.array([[[0, 10]]], np.int16), (1, 1, 4)).tolist()
    [[[0.0, 2.5, 7.5, 10.0]]]
    """
    rule = rescale or Rescale()
    if device != "cpu":
        return _on_device(array, shape, rule, store_dtype, device)
    result = torch.empty(tuple(shape), dtype=_DTYPES[store_dtype])
    for plane, values in zip(result, _planes(array, shape, rule), strict=True):
        plane.copy_(_storable(values, store_dtype))
    return result.numpy()


@dataclass(frozen=True)
class Taps:
    """Between which two voxels of an axis each new one lies.

    Attributes:
        before: Index of the first.
        after: Index of the second, which may be the same.
        keep: Weight of the first.
        take: Weight of the second.
    """

    before: Int64[Tensor, " n"]
    after: Int64[Tensor, " n"]
    keep: Float32[Tensor, " n"]
    take: Float32[Tensor, " n"]

    @classmethod
    def of(cls, length: int, new_length: int, *, flipped: bool = False) -> "Taps":
        """Place `new_length` voxels on the extent of `length`, which may be stored backwards.

        Positions are rounded where PyTorch's fused multiply-add rounds them: at index 500, one
        more rounding would be worth 0.1 HU at the edge of a bone.

        >>> Taps.of(4, 2).before.tolist(), Taps.of(4, 2).take.tolist()
        ([0, 2], [0.5, 0.5])
        """
        scale = np.float64(np.float32(length) / np.float32(new_length))
        exact = np.maximum(scale * (np.arange(new_length) + 0.5) - 0.5, 0.0)
        position = torch.from_numpy(exact.astype(np.float32))
        before = position.long().clamp_(max=length - 1)
        after = (before + 1).clamp_(max=length - 1)
        take = (position - before).clamp_(max=1.0)
        if flipped:
            before, after = length - 1 - before, length - 1 - after
        return cls(before, after, 1.0 - take, take)

    def blend(self, values: Float[Tensor, "h w"], axis: int) -> Float[Tensor, "H W"]:
        """Interpolate along one axis of a plane."""
        keep, take = (x[:, None] if axis == 0 else x for x in (self.keep, self.take))
        after = values.index_select(axis, self.after).mul_(take)
        # addcmul is one multiply-add with one rounding, as in PyTorch's own kernel
        return after.addcmul_(values.index_select(axis, self.before), keep)


def _planes(
    array: np.ndarray, shape: Sequence[int], rescale: Rescale
) -> Iterator[Float[Tensor, "H W"]]:
    array, flipped = _in_memory_order(array)
    depth, height, width = (
        Taps.of(length, new_length, flipped=flip)
        for length, new_length, flip in zip(array.shape, shape, flipped, strict=True)
    )

    @lru_cache(2)
    def plane(index: int) -> Float[Tensor, "H W"]:
        loaded = np.empty(array.shape[1:], np.float32)
        np.copyto(loaded, array[index], casting="unsafe")
        values = torch.from_numpy(loaded)
        if rescale.slope != 1:
            values.mul_(rescale.slope)
        if rescale.intercept != 0:
            values.add_(rescale.intercept)
        if flipped[2] or shape[2] != array.shape[2]:
            values = width.blend(values, 1)
        if flipped[1] or shape[1] != array.shape[1]:
            values = height.blend(values, 0)
        return values

    for index in range(shape[0]):
        values, take = plane(int(depth.before[index])), float(depth.take[index])
        if take:
            after = plane(int(depth.after[index])) * take
            values = after.add_(values, alpha=float(depth.keep[index]))
        yield values


def _in_memory_order(array: np.ndarray) -> tuple[np.ndarray, list[bool]]:
    """Undo flips, and copy if planes do not lie together; say which axes were flipped."""
    flipped = [step < 0 for step in array.strides]
    array = array[tuple(slice(None, None, -1 if flip else None) for flip in flipped)]
    if sorted(array.strides, reverse=True) == list(array.strides):
        return array, flipped
    result = np.empty(array.shape, array.dtype)
    for start in range(0, array.shape[0], _SLAB):
        slab = slice(start, start + _SLAB)
        for row in range(array.shape[1]):
            result[slab, row] = array[slab, row]
    return result, flipped


def _storable(values: Float[Tensor, "..."], store_dtype: StoreDtype) -> Float[Tensor, "..."]:
    dtype = _DTYPES[store_dtype]
    largest = torch.iinfo(dtype).max if store_dtype == "int16" else torch.finfo(dtype).max
    low, high = (float(value) for value in values.aminmax())
    if not -largest <= low <= high <= largest:
        raise ValueError(
            f"values run from {low:g} to {high:g}, which {store_dtype} cannot hold: "
            "these are not HU; check the rescale slope and intercept"
        )
    return values.round() if store_dtype == "int16" else values


def _on_device(
    array: np.ndarray, shape: Sequence[int], rescale: Rescale, store_dtype: StoreDtype, device: str
) -> np.ndarray:
    dtype = np.int16 if array.dtype == np.int16 else np.float32  # the one is half of the other
    volume = torch.from_numpy(np.array(array, dtype=dtype, order="C")).to(device).float()
    if not rescale.is_identity:
        volume.mul_(rescale.slope).add_(rescale.intercept)
    if tuple(shape) != tuple(volume.shape):
        volume = F.interpolate(volume[None, None], size=tuple(shape), mode="trilinear")[0, 0]
    return _storable(volume, store_dtype).to(_DTYPES[store_dtype]).cpu().numpy()
