"""Smooth random fields in the patient, and the noise of a reconstruction kernel."""

from functools import lru_cache

import numpy as np
from jaxtyping import Float

from medvlp.phantom.grid import Grid
from medvlp.types import Size3D

_REACH_MM = 200.0
"""Random fields are defined on a cube of this half width around the middle of the thorax."""

_MAX_STORED_GRAIN = 128
"""Volumes up to this size take their grain from one stored block: drawing it costs most."""


def smooth_field(grid: Grid, seed: int, scale_mm: float) -> Float[np.ndarray, "d h w"]:
    """Draw a random field of zero mean and roughly unit spread that is the same on every lattice.

    Args:
        grid: Where to evaluate it.
        seed: Equal seeds give the same field in the patient, whatever the lattice.
        scale_mm: Distance of its independent values: the size of its patches.
    """
    count = int(2 * _REACH_MM / scale_mm) + 2
    field = np.random.default_rng(seed).standard_normal((count,) * 3, dtype=np.float32) * 1.4
    for axis in grid.axes:
        weights = _weights(tuple(axis.ravel().tolist()), scale_mm, count)
        # each product puts its new axis last, so after three of them the order is z, y, x again
        field = np.tensordot(field, weights, axes=(0, 1))
    return field


@lru_cache(maxsize=64)
def _weights(axis: tuple[float, ...], scale_mm: float, count: int) -> Float[np.ndarray, "m n"]:
    """Interpolate smoothly (cubic step) between neighbouring lattice values."""
    place = np.clip((np.asarray(axis) + _REACH_MM) / scale_mm, 0, count - 1.001)
    lower = place.astype(np.int64)
    rest = place - lower
    rest = rest * rest * (3 - 2 * rest)
    weights = np.zeros((len(axis), count), dtype=np.float32)
    rows = np.arange(len(axis))
    weights[rows, lower] = 1 - rest
    weights[rows, lower + 1] = rest
    return weights


def add_kernel(
    hu: Float[np.ndarray, "d h w"], rng: np.random.Generator, *, noise_hu: float, blur: float
) -> None:
    """Blur in the plane and add the grain of a reconstruction kernel, in place.

    Args:
        hu: The painted volume.
        rng: Source of the grain.
        noise_hu: Standard deviation of the grain.
        blur: 0 for a sharp (lung) kernel with white grain, 1 for a soft one with coarse grain.
    """
    shape = (hu.shape[0], hu.shape[1], hu.shape[2])
    noise = _grain(shape, blur, rng) * np.float32(noise_hu * (-1) ** int(rng.integers(2)))
    if blur > 0:
        for axis in (1, 2):
            _smooth_along(hu, axis, 0.2 * blur)
    hu += noise


def _grain(shape: Size3D, blur: float, rng: np.random.Generator) -> Float[np.ndarray, "d h w"]:
    """Return grain of unit spread: a random window of a stored block, or fresh if large."""
    if max(shape) > _MAX_STORED_GRAIN:
        return _fresh_grain(shape, blur, rng)
    block = _stored_grain(blur)
    starts = [int(rng.integers(_MAX_STORED_GRAIN // 4)) for _ in shape]
    z, y, x = (slice(start, start + size) for start, size in zip(starts, shape, strict=True))
    return block[z, y, x]


@lru_cache(maxsize=8)
def _stored_grain(blur: float) -> Float[np.ndarray, "d h w"]:
    size = _MAX_STORED_GRAIN + _MAX_STORED_GRAIN // 4
    return _fresh_grain((size, size, size), blur, np.random.default_rng(7))


def _fresh_grain(
    shape: Size3D, blur: float, rng: np.random.Generator
) -> Float[np.ndarray, "d h w"]:
    noise = rng.standard_normal(shape, dtype=np.float32)
    if blur > 0:
        for axis in (1, 2):
            _smooth_along(noise, axis, 0.3 * blur)
        noise *= np.float32(1 / noise[shape[0] // 2].std())
    return noise


def _smooth_along(volume: Float[np.ndarray, "d h w"], axis: int, share: float) -> None:
    """Mix each voxel with its two neighbours along one in-plane axis."""
    first = (slice(None),) * axis + (slice(None, -1),)
    second = (slice(None),) * axis + (slice(1, None),)
    flow = volume[second] - volume[first]
    flow *= np.float32(share)
    volume[first] += flow
    volume[second] -= flow
