"""Preprocessing of CT for networks of a fixed input size: HLIP's published rules."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor

from medvlp.data.hounsfield import check_hounsfield
from medvlp.data.recipe import Prepared, ReadInto, Recipe, Region
from medvlp.data.resample import StoreDtype, resample
from medvlp.data.scan import Scan, check_orientation, reorient, resampled_affine
from medvlp.types import Size3D, Spacing3D

_VERSION = 1  # raise it when the same fields come to mean other numbers


class CTRecipe(Recipe):
    """HU, resampled by spacing, windowed to [0, 1], cropped and padded or resized, normalised.

    HU and spacing come from the scan (its header, or what the data set states in its place), so
    the contract, and its hash, is the same for every source.

    Args:
        size: Of the network's input (d, h, w).
        spacing_mm: Of the stored volume (d, h, w).
        window_hu: Lower end maps to 0, upper to 1; what lies beyond is clipped.
        fit: "crop": pad with the window's lower end (the smaller half before), then cut the
            centre. "resize": trilinear to `size`, without keeping proportions.
        mean: Subtracted after windowing.
        std: Divides after that.
        orientation: Letters of the stored axes, see `Scan.orientation`.
        store_dtype: "float32", "float16", or "int16" (rounded to whole HU).
    """

    def __init__(
        self,
        size: Sequence[int],
        spacing_mm: Sequence[float],
        *,
        window_hu: Sequence[float],
        mean: float,
        std: float,
        fit: Literal["crop", "resize"] = "crop",
        orientation: str = "SPL",
        store_dtype: StoreDtype = "float16",
    ) -> None:
        check_orientation(orientation)
        low, high = (float(value) for value in window_hu)
        if low >= high:
            raise ValueError(f"window_hu is [{low:g}, {high:g}], expected the lower end first")
        if std <= 0 or min(size) < 1 or min(spacing_mm) <= 0:
            raise ValueError(
                f"size {list(size)}, spacing_mm {list(spacing_mm)} and std {std} must be positive"
            )
        depth, height, width = (int(length) for length in size)
        self.size = (depth, height, width)
        self.spacing_mm: Spacing3D = _three(spacing_mm)
        self.window_hu = (low, high)
        self.mean, self.std = float(mean), float(std)
        self.fit: Literal["crop", "resize"] = fit
        self.orientation = orientation
        self.store_dtype: StoreDtype = store_dtype
        self.packed_dtype = getattr(torch, store_dtype)

    def describe(self) -> dict[str, Any]:
        """State everything that changes a number, in JSON types."""
        return {
            "kind": "ct",
            "version": _VERSION,
            "size": list(self.size),
            "spacing_mm": list(self.spacing_mm),
            "window_hu": list(self.window_hu),
            "fit": self.fit,
            "mean": self.mean,
            "std": self.std,
            "orientation": self.orientation,
            "interpolation": "trilinear",
            "store_dtype": self.store_dtype,
        }

    def prepare(self, scan: Scan, *, device: str = "cpu") -> Prepared:
        """Reorient, rescale to HU and resample to `spacing_mm`; HU are kept, not clipped.

        The new size is int(n * spacing / target) per axis, as HLIP publishes it.

        Raises:
            ValueError: If the rescale rule does not fit the stored numbers, or nothing is left.
        """
        if scan.modality != "CT":
            raise ValueError(f"a {scan.modality} scan, and this recipe is for CT")
        check_hounsfield(scan.array, scan.rescale)
        array, axes = reorient(scan.array, scan.orientation, self.orientation)
        shape = tuple(
            int(length * scan.spacing_mm[axis] / target)
            for length, axis, target in zip(array.shape, axes, self.spacing_mm, strict=True)
        )
        if min(shape) < 1:
            raise ValueError(f"{shape} voxels would be left at a spacing of {self.spacing_mm} mm")
        image = resample(
            array, shape, rescale=scan.rescale, store_dtype=self.store_dtype, device=device
        )
        affine = resampled_affine(scan, self.orientation, shape)
        return Prepared({"image": image}, {"affine": affine.tolist()})

    def region(self, shape: Size3D, generator: np.random.Generator | None = None) -> Region:
        """Say which part of a stored volume is read: the centre for "crop", else everything."""
        if self.fit == "resize":
            return slice(0, shape[0]), slice(0, shape[1]), slice(0, shape[2])
        depth, height, width = (
            slice((length - target) // 2, (length - target) // 2 + target)
            if length > target
            else slice(0, length)
            for length, target in zip(shape, self.size, strict=True)
        )
        return depth, height, width

    def network_input(self, stored: Shaped[np.ndarray, "d h w"]) -> Float[Tensor, "1 D H W"]:
        """Window to [0, 1], fit to `size`, normalise; `stored` may be a `region` already."""
        if self.fit == "resize":
            windowed = np.empty(stored.shape, np.float32)
            self._window(stored, windowed)
            volume = torch.from_numpy(windowed)[None, None]
            image = F.interpolate(volume, size=self.size, mode="trilinear")[0, 0].numpy()
            self._normalise(image)
            return torch.from_numpy(image)[None]
        image = np.empty(self.size, np.float32)
        part = stored[self.region(stored.shape)]
        inside = _inside(part.shape, self.size)
        lowest = np.zeros(1, np.float32)
        self._normalise(lowest)
        _fill_outside(image, inside, float(lowest[0]))
        for plane, values in zip(part, image[inside], strict=True):  # stays in the cache
            self._window(plane, values)
            self._normalise(values)
        return torch.from_numpy(image)[None]

    @property
    def can_defer(self) -> bool:
        """Whether stored numbers can be padded with the lower end of the window as it is."""
        low = self.window_hu[0]
        return self.fit == "crop" and float(np.dtype(self.store_dtype).type(low)) == low

    def pack(self, read_into: ReadInto, shape: Size3D, out: Shaped[np.ndarray, "1 D H W"]) -> None:
        """Read the centre and pad with the window's lower end."""
        region = self.region(shape)
        inside = _inside([part.stop - part.start for part in region], self.size)
        _fill_outside(out[0], inside, self.window_hu[0])
        read_into(region, out[0][inside])

    def finish(self, image: Shaped[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Window to [0, 1] and normalise, in float32."""
        low, high = self.window_hu
        windowed = image.to(torch.float32).sub_(low).div_(high - low).clamp_(0.0, 1.0)
        return windowed.sub_(self.mean).div_(self.std)

    def _window(self, stored: np.ndarray, out: np.ndarray) -> None:
        low, high = self.window_hu
        # NumPy, not torch: one thread whatever torch is set to, which small volumes need; but
        # NumPy converts half numbers one by one
        if stored.dtype == np.float16:
            torch.from_numpy(out).copy_(torch.from_numpy(stored))
            stored = out
        np.subtract(stored, np.float32(low), out=out, dtype=np.float32)
        np.divide(out, np.float32(high - low), out=out)
        np.clip(out, 0.0, 1.0, out=out)

    def _normalise(self, windowed: np.ndarray) -> None:
        windowed -= np.float32(self.mean)
        windowed /= np.float32(self.std)


def _inside(shape: Sequence[int], size: Size3D) -> tuple[slice, ...]:
    """Place a smaller volume in a larger one; the smaller half of the margin comes before."""
    starts = [(target - length) // 2 for length, target in zip(shape, size, strict=True)]
    return tuple(slice(start, start + length) for start, length in zip(starts, shape, strict=True))


def _fill_outside(out: np.ndarray, inside: tuple[slice, ...], value: float) -> None:
    """Fill what lies around a part, and leave the part as it is."""
    for axis, part in enumerate(inside):
        out[(*inside[:axis], slice(0, part.start))] = value
        out[(*inside[:axis], slice(part.stop, None))] = value


def _three(values: Sequence[float]) -> tuple[float, float, float]:
    depth, height, width = (float(value) for value in values)
    return depth, height, width
