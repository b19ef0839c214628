"""Organ masks: labels merged into anatomies, and brought to the grid of an image."""

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float64, Int, Real, UInt8

from medvlp.data.scan import Scan, orientation_of, reorient, resampled_affine
from medvlp.types import Size3D

MaskGrid = Literal["affine", "index"]

_LARGEST = 65535  # label of a mask
_SAME_MM = 0.01  # headers round; grids closer than this are one
_TIE = 1e-4  # voxels: ties between two neighbours must not hang on rounding


class AnatomyMask:
    """Which labels of a mask make up which anatomy, and where its voxels are.

    Args:
        anatomies: Name to the labels that are merged into it; one without labels stays absent.
            The order gives the ids 1, 2, ...; all other labels become 0.
        grid: "affine": voxels are where the headers of mask and image say, whatever the two grids
            are. "index": the mask is stored voxel for voxel like the image, whatever its header
            says.
    """

    def __init__(self, anatomies: dict[str, list[int]], grid: MaskGrid = "affine") -> None:
        labels = [label for group in anatomies.values() for label in group]
        if not labels or min(labels) < 1:
            raise ValueError(f"anatomies is {anatomies}, expected names with labels from 1")
        if len(set(labels)) < len(labels) or len(anatomies) > np.iinfo(np.uint8).max:
            raise ValueError(f"anatomies is {anatomies}: a label may belong to one name only")
        self.anatomies = {
            name: [int(label) for label in labels] for name, labels in anatomies.items()
        }
        self.names = tuple(anatomies)
        self.grid: MaskGrid = grid

    def describe(self) -> dict[str, Any]:
        """State everything that changes a number, in JSON types."""
        return {"anatomies": [[*pair] for pair in self.anatomies.items()], "grid": self.grid}

    def merge(self, labels: Real[np.ndarray, "d h w"]) -> UInt8[np.ndarray, "d h w"]:
        """Turn labels into ids of anatomies.

        Raises:
            ValueError: If these are no labels, or none belongs to an anatomy.
        """
        whole = labels if labels.dtype.kind in "iu" else labels.astype(np.int32)
        low, high = int(whole.min()), int(whole.max())
        if (
            low < 0
            or high > _LARGEST
            or (whole is not labels and not np.array_equal(whole, labels))
        ):
            raise ValueError(
                f"the anatomy mask holds numbers from {labels.min():g} to {labels.max():g}, "
                f"expected labels: whole numbers from 0 to {_LARGEST}"
            )
        known = max(label for group in self.anatomies.values() for label in group)
        table = np.zeros(max(high, known) + 1, np.uint8)
        for number, group in enumerate(self.anatomies.values(), start=1):
            table[group] = number
        merged = table[whole]
        if not merged.any():
            raise ValueError(
                f"the anatomy mask has none of {', '.join(self.names)} (labels "
                f"{self.anatomies}); its highest label is {high}"
            )
        return merged

    def ids(self, mask: Scan) -> UInt8[np.ndarray, "d h w"]:
        """Merge the labels of a mask as it was read."""
        if mask.rescale.is_identity:
            return self.merge(mask.array)
        return self.merge(mask.array * mask.rescale.slope + mask.rescale.intercept)

    def place(
        self, mask: Scan, image: Scan, *, orientation: str, shape: Size3D
    ) -> UInt8[np.ndarray, "d h w"]:
        """Bring the merged mask to the grid that `image` has after reorienting and resizing.

        Each voxel takes the anatomy of the mask's voxel that holds its centre; what lies outside
        the mask is 0. Where the data set overrules the image's header, the two worlds cannot be
        compared: the mask must then have the image's size, and is turned by its own orientation.

        Args:
            mask: Labels, on any grid.
            image: As read; it states which part of the world `shape` covers.
            orientation: Letters of the result.
            shape: Of the result.

        Raises:
            ValueError: If the two cannot be of one patient's scan, with what to do.
        """
        if not mask.has_geometry and self.grid == "affine":
            raise ValueError(
                "the anatomy mask is a bare array, without geometry: give NIfTI, or, if it is "
                'stored voxel for voxel like the image, set grid "index"'
            )
        merged = self.ids(mask)
        size = reorient(image.array, image.orientation, orientation)[0].shape
        letters = image.orientation if self.grid == "index" else mask.orientation
        view, _ = reorient(merged, letters, orientation)
        if self.grid == "index" or not header_holds(image):
            if view.shape != size:
                raise ValueError(
                    f"the anatomy mask has {view.shape} voxels as {orientation}, the image {size}, "
                    "and headers do not say how they lie; make the mask from the same file"
                )
            return resize_labels(view, shape, mode="nearest-exact")
        grid = resampled_affine(mask, orientation, view.shape)
        if view.shape == size:
            _check_origin(grid, resampled_affine(image, orientation, size))
        index = np.linalg.inv(grid) @ resampled_affine(image, orientation, shape)
        return _take(view, index, shape)


def header_holds(scan: Scan) -> bool:
    """Tell whether a scan's geometry is its header's, not overruled by its data set."""
    lengths = np.linalg.norm(scan.affine[:3, :3], axis=0)[::-1]
    same = np.allclose(lengths, scan.spacing_mm, rtol=0, atol=1e-4)
    return same and orientation_of(scan.affine) == scan.orientation


def resize_labels(
    labels: UInt8[np.ndarray, "d h w"],
    shape: Sequence[int],
    *,
    mode: Literal["nearest", "nearest-exact"],
) -> UInt8[np.ndarray, "D H W"]:
    """Resize without blending; "nearest" is off by half a voxel and is what fVLM publishes."""
    tensor = torch.from_numpy(np.ascontiguousarray(labels))[None, None]
    return F.interpolate(tensor, size=tuple(shape), mode=mode)[0, 0].numpy()


def _check_origin(mask: Float64[np.ndarray, "4 4"], image: Float64[np.ndarray, "4 4"]) -> None:
    """Refuse two grids that are equal but for where they begin: one origin was lost."""
    offset = np.linalg.norm(mask[:3, 3] - image[:3, 3])
    if (
        np.allclose(mask[:3, :3], image[:3, :3], atol=_SAME_MM)
        and offset > np.abs(image[:3, :3]).max()
    ):
        raise ValueError(
            f"the anatomy mask has the image's size, spacing and direction but begins {offset:.1f} "
            'mm away from it: one origin is wrong; with grid "index" the headers are not compared'
        )


def _take(
    view: UInt8[np.ndarray, "d h w"], index: Float64[np.ndarray, "4 4"], shape: Size3D
) -> UInt8[np.ndarray, "D H W"]:
    """Take from `view` at the rounded indices that the map gives for each voxel of `shape`.

    Raises:
        ValueError: If nothing but 0 is there.
    """
    off_diagonal = index[:3, :3] - np.diag(np.diag(index[:3, :3]))
    if np.abs(off_diagonal * shape).max() >= _TIE:
        return _something(np.stack(list(_slabs(view, index, shape))))
    places = [_rounded(index[a, a] * np.arange(shape[a]) + index[a, 3]) for a in range(3)]
    inside = [(p >= 0) & (p < length) for p, length in zip(places, view.shape, strict=True)]
    result = np.zeros(shape, np.uint8)
    kept = [place[held] for place, held in zip(places, inside, strict=True)]
    result[np.ix_(*inside)] = view[np.ix_(*kept)]
    return _something(result)


def _something(placed: UInt8[np.ndarray, "d h w"]) -> UInt8[np.ndarray, "d h w"]:
    if not placed.any():
        raise ValueError(
            "no anatomy of the mask lies inside the image: they are of different scans, or "
            "one header is wrong"
        )
    return placed


def _slabs(
    view: UInt8[np.ndarray, "d h w"], index: Float64[np.ndarray, "4 4"], shape: Size3D
) -> Iterator[UInt8[np.ndarray, "H W"]]:
    rows, columns = np.mgrid[: shape[1], : shape[2]]
    flat = view.ravel()
    for depth in range(shape[0]):
        inside = np.ones(shape[1:], bool)
        position = np.zeros(shape[1:], np.int64)
        for axis, length in enumerate(view.shape):
            d, h, w, start = index[axis]
            place = _rounded(d * depth + h * rows + w * columns + start)
            inside &= (place >= 0) & (place < length)
            position = position * length + place
        yield np.where(inside, flat[np.where(inside, position, 0)], 0).astype(np.uint8)


def _rounded(places: Float[np.ndarray, "*n"]) -> Int[np.ndarray, "*n"]:
    return np.floor(places + 0.5 + _TIE).astype(np.int64)
