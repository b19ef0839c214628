"""A fixed number of slices of a CT as grey images, for a 2D encoder: HSENet's rules."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8

from medvlp.data.body_volume import (
    published_spacing,
    resampled_shape,
    rescaled,
    spacing_along,
    three,
    trilinear64,
)
from medvlp.data.resample import resample
from medvlp.data.scan import Scan, check_orientation, reorient
from medvlp.types import Size3D

_VERSION = 1  # raise it when the same fields come to mean other numbers
_LARGE_FILE = 200 * 2**20  # bytes; "200 MB" of the published script

GreyScale = Literal["slice", "volume", "window"]
FewSlices = Literal["interpolate", "repeat", "refuse"]
PublishedFor = Literal["ct_rate", "bimcv_r"]


class SliceStack:
    """Choose slices at even distances and make bytes of them.

    Args:
        num_slices: Slice floor(i (depth - 1) / (num_slices - 1)) is the i-th.
        window_hu: Numbers are clipped to it; None does not clip.
        spacing_mm: (d, h, w) to which the scan is brought first, rounded down to whole voxels;
            None leaves its own.
        scale: What becomes 0 and 255: the least and largest number of each slice, or of the
            volume, or the ends of the window. Bytes are truncated, not rounded.
        few: What is done with fewer than `num_slices`: "interpolate" along the depth, "repeat", or
            "refuse" the scan.
        orientation: Letters of the slices, see `Scan.orientation`. "SPR" shows rows to the back
            and columns to the right, as CT-RATE's published slices do.
        jpeg_quality: Of a round trip through JPEG, as the published slices made; None makes none.
        compat: What the published scripts did to each data set, whatever the orientation.
            "ct_rate": axes (x, y, z) as stored become (z, x, y) only if there are fewer slices
            than columns, so that longer scans are cut along x; the spacing along x counts for y;
            images turn clockwise. "bimcv_r": slices along z, turned counter-clockwise; each
            scaled on its own where the file is larger than 200 MB. None does neither.
    """

    def __init__(
        self,
        num_slices: int = 32,
        *,
        window_hu: Sequence[float] | None = None,
        spacing_mm: Sequence[float] | None = None,
        scale: GreyScale = "slice",
        few: FewSlices = "interpolate",
        orientation: str = "SPR",
        jpeg_quality: int | None = None,
        compat: PublishedFor | None = None,
    ) -> None:
        check_orientation(orientation)
        if num_slices < 2 or (spacing_mm is not None and min(spacing_mm) <= 0):
            raise ValueError(
                f"num_slices is {num_slices}, expected at least 2; spacing_mm is {spacing_mm}, "
                "expected positive numbers or null"
            )
        if window_hu is None and scale == "window":
            raise ValueError('scale "window" needs window_hu')
        if window_hu is not None and not window_hu[0] < window_hu[1]:
            raise ValueError(f"window_hu is {list(window_hu)}, expected the lower end first")
        self.num_slices = num_slices
        self.window_hu = None if window_hu is None else (float(window_hu[0]), float(window_hu[1]))
        self.spacing_mm = None if spacing_mm is None else three(spacing_mm)
        self.scale: GreyScale = scale
        self.few: FewSlices = few
        self.orientation, self.jpeg_quality = orientation, jpeg_quality
        self.compat: PublishedFor | None = compat

    def describe(self) -> dict[str, Any]:
        """State everything that changes a number, in JSON types."""
        return {
            "version": _VERSION,
            "num_slices": self.num_slices,
            "window_hu": None if self.window_hu is None else list(self.window_hu),
            "spacing_mm": None if self.spacing_mm is None else list(self.spacing_mm),
            "scale": self.scale,
            "few": self.few,
            "orientation": self.orientation,
            "jpeg_quality": self.jpeg_quality,
            "compat": self.compat,
        }

    def __call__(self, scan: Scan, *, device: str = "cpu") -> UInt8[np.ndarray, "m h w"]:
        """Make the images; a slice, or volume, of one number all over is black.

        Raises:
            ValueError: If there are too few slices and `few` refuses them.
        """
        volume = self._volume(scan, device)
        images = _bytes(self._chosen(volume), self._ends(scan, volume))
        turns = {"ct_rate": -1, "bimcv_r": 1, None: 0}[self.compat]
        images = np.ascontiguousarray(np.rot90(images, turns, axes=(1, 2)))
        if self.jpeg_quality is None:
            return images
        return np.stack([through_jpeg(image, self.jpeg_quality) for image in images])

    def remark(self, scan: Scan) -> str | None:
        """Say what is done if there are fewer slices than are wanted."""
        letters = self._letters(scan)
        stored = reorient(scan.array, scan.orientation, letters)[0].shape
        depth = self._shape(scan, letters, stored)[0]
        if depth >= self.num_slices or self.few == "refuse":
            return None
        done = {"interpolate": "interpolated between them", "repeat": "some are repeated"}[self.few]
        return f"{depth} slices, and {self.num_slices} are wanted: {done}"

    def _letters(self, scan: Scan) -> str:
        deep, high, wide = scan.orientation
        if self.compat is None:
            return self.orientation
        slices, _, columns = scan.array.shape
        if self.compat == "ct_rate" and slices >= columns:
            return wide + high + deep
        return deep + wide + high

    def _volume(self, scan: Scan, device: str) -> Float[np.ndarray, "d h w"]:
        letters = self._letters(scan)
        values = rescaled(scan, letters, np.float32 if self.compat is None else np.float64)
        if self.window_hu is not None:
            np.clip(values, *self.window_hu, out=values)
        if self.spacing_mm is None:
            return values
        resize = resample if self.compat is None else trilinear64
        return resize(values, self._shape(scan, letters, values.shape), device=device)

    def _shape(self, scan: Scan, letters: str, shape: Sequence[int]) -> Size3D:
        """Give the size after resampling of axes that have been brought into their order."""
        if self.spacing_mm is None:
            depth, height, width = shape
            return depth, height, width
        spacing = spacing_along(scan, letters) if self.compat is None else published_spacing(scan)
        return resampled_shape(shape, spacing, self.spacing_mm)

    def _chosen(self, volume: Float[np.ndarray, "d h w"]) -> Float[np.ndarray, "m h w"]:
        depth, *size = volume.shape
        if depth < self.num_slices and self.few == "refuse":
            raise ValueError(
                f"{depth} slices, and {self.num_slices} are wanted; leave the scan out, or set "
                "slices.few to interpolate or repeat"
            )
        if depth < self.num_slices and self.few == "interpolate":
            tensor = torch.from_numpy(volume)[None, None]
            resized = F.interpolate(tensor, size=(self.num_slices, *size), mode="trilinear")
            return resized[0, 0].numpy()
        return volume[even_indices(depth, self.num_slices)]

    def _ends(self, scan: Scan, volume: Float[np.ndarray, "d h w"]) -> tuple[float, float] | None:
        """Give the numbers that become 0 and 255; None where each slice has its own."""
        if self.scale == "window":
            return self.window_hu
        path = scan.provenance.get("path")
        large = path is not None and Path(path).stat().st_size > _LARGE_FILE
        if self.scale == "slice" or (self.compat == "bimcv_r" and large):
            return None
        return float(volume.min()), float(volume.max())


def even_indices(depth: int, wanted: int) -> Int[np.ndarray, " m"]:
    """Choose indices from first to last at even distances, rounded down; few are repeated.

    >>> even_indices(5, 3).tolist(), even_indices(2, 4).tolist()
    ([0, 2, 4], [0, 0, 0, 1])
    """
    return np.arange(wanted) * (depth - 1) // (wanted - 1)


def through_jpeg(image: UInt8[np.ndarray, "h w"], quality: int) -> UInt8[np.ndarray, "h w"]:
    """Give what is left of an image after it was a JPEG file."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(image).save(file, format="JPEG", quality=quality)
    return np.asarray(Image.open(file))


def _bytes(
    slices: Float[np.ndarray, "m h w"], ends: tuple[float, float] | None
) -> UInt8[np.ndarray, "m h w"]:
    axes = (1, 2) if ends is None else None
    low, high = ends or (
        slices.min(axis=axes, keepdims=True),
        slices.max(axis=axes, keepdims=True),
    )
    span = np.subtract(high, low)
    scaled = (slices - low) / np.where(span > 0, span, 1)
    return (scaled.clip(0, 1) * 255).astype(np.uint8)
