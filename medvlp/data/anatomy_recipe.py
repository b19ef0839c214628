"""Preprocessing of CT with organ masks: fVLM's published rules, and what they should have been."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int16, Shaped, UInt8
from torch import Tensor

from medvlp.data.anatomy_mask import AnatomyMask, header_holds, resize_labels
from medvlp.data.hounsfield import check_hounsfield
from medvlp.data.intensity import HounsfieldWindow
from medvlp.data.recipe import Chance, Facts, Prepared, ReadField, Recipe, Region
from medvlp.data.resample import resample
from medvlp.data.scan import Rescale, Scan, check_orientation, reorient, resampled_affine
from medvlp.data.unit_range import UnitDtype, pack_unit, unpack_unit
from medvlp.types import Size3D, Spacing3D

_VERSION = 1  # raise it when the same fields come to mean other numbers


class AnatomyRecipe(Recipe):
    """HU resampled by spacing and windowed to [0, 1]; cut to the organs; their mask alike.

    In training a window of `size` is cut out at random and flipped at random, image and mask
    together; in evaluation the whole volume is given, padded with 0 to at least `size`.

    Args:
        size: Of the training window (d, h, w), and least size in evaluation.
        spacing_mm: Of the stored volume (d, h, w).
        window_hu: Lower end maps to 0, upper to 1; what lies beyond is clipped.
        mask: Which labels of the companion "anatomy_mask" are which anatomy.
        margin: Voxels kept around the box of all anatomies (d, h, w). As published, the upper
            margin is one less.
        flip_prob: Of each axis, in training. It changes no prepared number and is not part of
            the contract. The axis of columns swaps left and right, which reports name.
        orientation: Letters of the stored axes, see `Scan.orientation`.
        compat: "published" repeats what fVLM's scripts do: axes as stored whatever the
            orientation; spacing from the diagonal of the affine, x and y swapped; HU in int16,
            whose constants lose their fractions and whose sums wrap around; masks by "nearest",
            half a voxel off; no check of the HU; float32 in the cache. None does all of this right,
            and stores 16-bit fractions.
    """

    fields = ("image", "anatomy_mask")
    companions = ("anatomy_mask",)

    def __init__(
        self,
        size: Sequence[int],
        spacing_mm: Sequence[float],
        *,
        window_hu: Sequence[float],
        mask: AnatomyMask,
        margin: Sequence[int] = (5, 20, 20),
        flip_prob: float = 0.2,
        orientation: str = "SPL",
        compat: Literal["published"] | None = None,
    ) -> None:
        check_orientation(orientation)
        if min(size) < 1 or min(spacing_mm) <= 0 or min(margin) < 0 or not 0 <= flip_prob <= 1:
            raise ValueError(
                f"size {list(size)} and spacing_mm {list(spacing_mm)} must be positive, margin "
                f"{list(margin)} not negative, flip_prob {flip_prob:g} within 0 and 1"
            )
        depth, height, width = (int(length) for length in size)
        self.size: Size3D = (depth, height, width)
        deep, high, wide = (float(mm) for mm in spacing_mm)
        self.spacing_mm: Spacing3D = (deep, high, wide)
        self.window = HounsfieldWindow(*(float(hu) for hu in window_hu))
        self.mask = mask
        self.margin = tuple(int(voxels) for voxels in margin)
        self.flip_prob = flip_prob
        self.orientation = orientation
        self.compat: Literal["published"] | None = compat
        self.store_dtype: UnitDtype = "float32" if compat else "uint16"

    def describe(self) -> dict[str, Any]:
        """State everything that changes a number, in JSON types."""
        return {
            "kind": "anatomy",
            "version": _VERSION,
            "size": list(self.size),
            "spacing_mm": list(self.spacing_mm),
            "window_hu": [self.window.low, self.window.high],
            "mask": self.mask.describe(),
            "margin": list(self.margin),
            "interpolation": "trilinear",
            "orientation": self.orientation,
            "compat": self.compat,
            "store_dtype": self.store_dtype,
        }

    def prepare(self, scan: Scan, *, device: str = "cpu") -> Prepared:
        """Resample image and mask, window, and cut both to the organs.

        Raises:
            ValueError: If the scan is no CT in HU, or its mask is missing, of another scan, or
                without any of the anatomies.
        """
        if scan.modality != "CT":
            raise ValueError(f"a {scan.modality} scan, and this recipe is for CT")
        if "anatomy_mask" not in scan.companions:
            raise ValueError(
                "the scan has no anatomy_mask: segment it first (TotalSegmentator, task total) "
                "and tell the data set where the masks lie"
            )
        grid = self._published_grid if self.compat else self._grid
        volume, anatomy, affine = grid(scan, device)
        lost = self._lost(scan.companions["anatomy_mask"], anatomy)
        if lost and self.compat:
            raise ValueError(f"{', '.join(lost)} vanished from the anatomy mask by resampling")
        box = self._box(anatomy)
        affine[:3, 3] += affine[:3, :3] @ [part.start for part in box]
        anatomy = np.ascontiguousarray(anatomy[box])
        counts = np.bincount(anatomy.ravel(), minlength=len(self.mask.names) + 1)[1:]
        facts = {
            "affine": affine.tolist(),
            "resampled_shape": list(volume.shape),
            "anatomy_voxels": dict(zip(self.mask.names, counts.tolist(), strict=True)),
            "anatomies_lost": lost,
        }
        image = pack_unit(self.window(volume[box]), self.store_dtype)
        return Prepared({"image": image, "anatomy_mask": anatomy}, facts)

    def region(self, shape: Size3D, generator: np.random.Generator | None = None) -> Region:
        """Cut a window at random, uniformly over its places; everything in evaluation."""
        depth, height, width = (
            slice(0, length)
            if generator is None or length <= window
            else _from(int(generator.integers(length - window + 1)), window)
            for length, window in zip(shape, self.size, strict=True)
        )
        return depth, height, width

    def network_input(self, stored: Shaped[np.ndarray, "d h w"]) -> Float[Tensor, "1 D H W"]:
        """Pad with 0, the window's lower end, to at least `size`."""
        return torch.from_numpy(self._padded(unpack_unit(stored)))[None]

    def inputs(
        self, read: ReadField, scan: Facts, *, target: Facts | None = None, generator: Chance = None
    ) -> dict[str, Tensor]:
        """Give "image" (1 d h w) and "anatomy_mask" (d h w), the same part and flipped alike."""
        depth, height, width = scan["shape"]
        region = None if generator is None else self.region((depth, height, width), generator)
        image = self.network_input(read("image", region))
        anatomy = torch.from_numpy(self._padded(read("anatomy_mask", region)))
        if generator is not None:
            flipped = np.flatnonzero(generator.random(3) < self.flip_prob).tolist()
            image = image.flip([axis + 1 for axis in flipped])
            anatomy = anatomy.flip(flipped)
        return {"image": image, "anatomy_mask": anatomy}

    def _grid(self, scan: Scan, device: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        check_hounsfield(scan.array, scan.rescale)
        view, axes = reorient(scan.array, scan.orientation, self.orientation)
        spacing = [scan.spacing_mm[axis] for axis in axes]
        shape = self._shape(
            view.shape, [s / t for s, t in zip(spacing, self.spacing_mm, strict=True)]
        )
        volume = resample(view, shape, rescale=scan.rescale, device=device)
        mask = scan.companions["anatomy_mask"]
        anatomy = self.mask.place(mask, scan, orientation=self.orientation, shape=shape)
        return volume, anatomy, resampled_affine(scan, self.orientation, shape)

    def _published_grid(self, scan: Scan, device: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        mask = scan.companions["anatomy_mask"]
        if mask.array.shape != scan.array.shape:
            raise ValueError(
                f"the anatomy mask has {mask.array.shape} voxels, the image {scan.array.shape}; "
                "compat=published compares no headers"
            )
        deep, high, wide = (
            length / target for length, target in zip(_diagonal(scan), self.spacing_mm, strict=True)
        )
        shape = self._shape(scan.array.shape, [deep, wide, high])  # swapped, as published
        hounsfield = published_hounsfield(scan.array, scan.rescale)
        # axes (x, y, z), as published: another order would round otherwise
        volume = torch.from_numpy(hounsfield.T.astype(np.float32)).to(device)[None, None]
        volume = F.interpolate(volume, size=shape[::-1], mode="trilinear")[0, 0].cpu().numpy().T
        anatomy = resize_labels(self.mask.ids(mask), shape, mode="nearest")
        return volume, anatomy, resampled_affine(scan, scan.orientation, shape)

    def _shape(self, lengths: Sequence[int], scales: Sequence[float]) -> Size3D:
        depth, height, width = (int(n * scale) for n, scale in zip(lengths, scales, strict=True))
        if min(depth, height, width) < 1:
            raise ValueError(
                f"{(depth, height, width)} voxels would be left at {self.spacing_mm} mm"
            )
        return depth, height, width

    def _box(self, anatomy: UInt8[np.ndarray, "d h w"]) -> Region:
        present = anatomy > 0
        parts: list[slice] = []
        for axis, (margin, length) in enumerate(zip(self.margin, anatomy.shape, strict=True)):
            others = tuple(other for other in range(3) if other != axis)
            places = np.flatnonzero(present.any(axis=others))
            start, stop = int(places[0]) - margin, int(places[-1]) + margin
            parts.append(slice(max(start, 0), max(min(stop, length), int(places[-1]) + 1)))
        return parts[0], parts[1], parts[2]

    def _lost(self, mask: Scan, anatomy: UInt8[np.ndarray, "d h w"]) -> list[str]:
        had = set(np.unique(self.mask.ids(mask)).tolist())
        has = set(np.unique(anatomy).tolist())
        return [name for number, name in enumerate(self.mask.names, 1) if number in had - has]

    def _padded(self, part: Shaped[np.ndarray, "d h w"]) -> Shaped[np.ndarray, "D H W"]:
        totals = [max(w - n, 0) for n, w in zip(part.shape, self.size, strict=True)]
        return np.pad(part, [(total // 2, total - total // 2) for total in totals])


def published_hounsfield(
    array: Shaped[np.ndarray, "d h w"], rescale: Rescale
) -> Int16[np.ndarray, "d h w"]:
    """Rescale as fVLM's script does: in the file's own type, then cast to int16.

    In integer files slope and intercept lose their fractions and sums wrap around; other results
    lose theirs.

    >>> published_hounsfield(np.array([[[100]]], np.int16), Rescale(1.5, -10.7)).tolist()
    [[[90]]]
    """
    if array.dtype.kind == "f":
        values = np.trunc(array * rescale.slope + rescale.intercept)
        return values.astype(np.int64).astype(np.int16)
    slope, intercept = (
        np.int64(int(v)).astype(array.dtype) for v in (rescale.slope, rescale.intercept)
    )
    return (array * slope + intercept).astype(np.int16)


def _diagonal(scan: Scan) -> tuple[float, float, float]:
    """Give what fVLM takes for the spacing (d, h, w), as a header stores it: in 32 bits."""
    if header_holds(scan):
        x, y, z = (abs(float(mm)) for mm in np.diag(scan.affine)[:3].astype(np.float32))
        return z, y, x
    deep, high, wide = (float(np.float32(mm)) for mm in scan.spacing_mm)
    return deep, high, wide


def _from(start: int, length: int) -> slice:
    return slice(start, start + length)
