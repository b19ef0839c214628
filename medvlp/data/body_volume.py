"""A CT cut to the body and brought to a fixed size, whatever its proportions: HSENet's rule."""

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float64

from medvlp.data.recipe import Region
from medvlp.data.resample import resample
from medvlp.data.scan import Scan, check_orientation, reorient, resampled_affine
from medvlp.types import Size3D, Spacing3D

_VERSION = 1  # raise it when the same fields come to mean other numbers


class BodyVolume:
    """Window, resample by spacing, scale to [0, 1] by least and largest, cut the body, resize.

    The body is the box of all voxels above the least one.

    Args:
        window_hu: Numbers are clipped to it.
        spacing_mm: (d, h, w) in between, rounded down to whole voxels; None leaves the scan's.
        orientation: Letters of the axes, see `Scan.orientation`. "SLP" is the published order
            (z, x, y) of a file that is stored as CT-RATE's are.
        compat: "published" takes the axes as stored for (z, x, y) whatever the orientation, and
            the spacing along x for that along y; it computes the resampling in float64. None
            does not.
    """

    def __init__(
        self,
        window_hu: Sequence[float],
        *,
        spacing_mm: Sequence[float] | None = None,
        orientation: str = "SLP",
        compat: Literal["published"] | None = None,
    ) -> None:
        check_orientation(orientation)
        low, high = (float(hu) for hu in window_hu)
        if low >= high or (spacing_mm is not None and min(spacing_mm) <= 0):
            raise ValueError(
                f"window_hu is {list(window_hu)}, expected the lower end first; spacing_mm is "
                f"{spacing_mm}, expected positive numbers or null"
            )
        self.window_hu = (low, high)
        self.spacing_mm = None if spacing_mm is None else three(spacing_mm)
        self.orientation = orientation
        self.compat: Literal["published"] | None = compat

    def describe(self) -> dict[str, Any]:
        """State everything that changes a number, in JSON types."""
        return {
            "version": _VERSION,
            "window_hu": list(self.window_hu),
            "spacing_mm": None if self.spacing_mm is None else list(self.spacing_mm),
            "interpolation": "trilinear",
            "orientation": self.orientation,
            "compat": self.compat,
        }

    def __call__(
        self, scan: Scan, size: Size3D, *, device: str = "cpu"
    ) -> tuple[Float[np.ndarray, "d h w"], dict[str, Any]]:
        """Make the volume and state its facts: affine, and sizes on the way.

        Raises:
            ValueError: If the scan is one number all over within the window.
        """
        letters = self._letters(scan)
        volume = self._resampled(scan, letters, device)
        low, high = float(volume.min()), float(volume.max())
        if low == high:
            raise ValueError(
                f"all voxels are {low:g} after clipping to {self.window_hu} HU: the scan is empty"
            )
        volume -= np.float32(low)
        volume /= np.float32(max(high - low, 1e-8))
        box = _body(volume)
        body = torch.from_numpy(np.ascontiguousarray(volume[box])).to(device)[None, None]
        resized = F.interpolate(body, size=size, mode="trilinear")[0, 0].cpu().numpy()
        affine = resampled_affine(scan, letters, volume.shape)
        facts = {
            "affine": _cut_and_resized(affine, box, size).tolist(),
            "resampled_shape": list(volume.shape),
            "body_shape": [part.stop - part.start for part in box],
        }
        return resized, facts

    def _letters(self, scan: Scan) -> str:
        deep, high, wide = scan.orientation
        return deep + wide + high if self.compat else self.orientation

    def _resampled(self, scan: Scan, letters: str, device: str) -> Float[np.ndarray, "d h w"]:
        exact = self.compat is not None and self.spacing_mm is not None
        values = rescaled(scan, letters, np.float64 if exact else np.float32)
        np.clip(values, *self.window_hu, out=values)
        if self.spacing_mm is None:
            return values
        spacing = published_spacing(scan) if self.compat else spacing_along(scan, letters)
        shape = resampled_shape(values.shape, spacing, self.spacing_mm)
        if not exact:
            return resample(values, shape, device=device)
        return trilinear64(values, shape, device).astype(np.float32)


def rescaled(scan: Scan, letters: str, dtype: type[np.floating[Any]]) -> Float[np.ndarray, "d h w"]:
    """Give the numbers that the scan stands for, in the orientation wanted."""
    view, _ = reorient(scan.array, scan.orientation, letters)
    values = np.array(view, dtype=dtype, order="C")
    if not scan.rescale.is_identity:
        values *= dtype(scan.rescale.slope)
        values += dtype(scan.rescale.intercept)
    return values


def spacing_along(scan: Scan, letters: str) -> Spacing3D:
    """Give the spacing of each axis after reorienting."""
    _, axes = reorient(scan.array, scan.orientation, letters)
    return three([scan.spacing_mm[axis] for axis in axes])


def published_spacing(scan: Scan) -> Spacing3D:
    """Give HSENet's spacing of (z, x, y): that of the table, with x for both in the plane."""
    deep, _, wide = scan.spacing_mm
    return deep, wide, wide


def resampled_shape(shape: Sequence[int], spacing: Spacing3D, target: Spacing3D) -> Size3D:
    """Round down after dividing the spacings first, as published: 40 voxels of 1.2 mm are 31.

    Raises:
        ValueError: If nothing would be left.

    >>> resampled_shape((40, 8, 8), (1.2, 1.5, 3.0), (1.5, 1.5, 1.5))
    (31, 8, 16)
    """
    ratios = [length / wanted for length, wanted in zip(spacing, target, strict=True)]
    depth, height, width = (math.floor(n * r) for n, r in zip(shape, ratios, strict=True))
    if min(depth, height, width) < 1:
        raise ValueError(f"{(depth, height, width)} voxels would be left at {target} mm")
    return depth, height, width


def trilinear64(
    values: Float64[np.ndarray, "d h w"], shape: Sequence[int], device: str = "cpu"
) -> Float64[np.ndarray, "D H W"]:
    """Resize in float64, which HSENet's published numbers need to be met exactly."""
    volume = torch.from_numpy(values).to(device)[None, None]
    return F.interpolate(volume, size=tuple(shape), mode="trilinear")[0, 0].cpu().numpy()


def three(values: Sequence[float]) -> Spacing3D:
    """Check that there are three numbers, for (d, h, w)."""
    depth, height, width = (float(value) for value in values)
    return depth, height, width


def _body(volume: Float[np.ndarray, "d h w"]) -> Region:
    present = volume > 0
    parts: list[slice] = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        places = np.flatnonzero(present.any(axis=others))
        parts.append(slice(int(places[0]), int(places[-1]) + 1))
    return parts[0], parts[1], parts[2]


def _cut_and_resized(
    affine: Float64[np.ndarray, "4 4"], box: Region, size: Size3D
) -> Float64[np.ndarray, "4 4"]:
    """State the grid of a part of a volume that is resized; the part's edges stay."""
    result = affine.copy()
    result[:3, 3] += affine[:3, :3] @ [part.start for part in box]
    for axis, (part, wanted) in enumerate(zip(box, size, strict=True)):
        scale = (part.stop - part.start) / wanted
        result[:3, 3] += affine[:3, axis] * (scale - 1) / 2
        result[:3, axis] *= scale
    return result
