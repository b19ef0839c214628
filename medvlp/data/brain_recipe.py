"""Preprocessing of brain MR and head CT slice stacks: HLIP's published rules for Pub-Brain-5."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, Shaped
from torch import Tensor

from medvlp.data.intensity import Intensity
from medvlp.data.recipe import Prepared, Recipe
from medvlp.data.scan import Scan, check_orientation, reorient, resampled_affine
from medvlp.data.unit_range import UnitDtype, check_unit_dtype, pack_unit, unpack_unit
from medvlp.types import Size3D

_VERSION = 1  # raise it when the same fields come to mean other numbers
_CHANNELS = 2  # of a diffusion series that is stacked: b0 and the weighted volume
_EQUAL = 1 - 1e-5  # spacings closer than this are one: headers store them in 32 bits


class BrainRecipe(Recipe):
    """Numbers to [0, 1] at the scan's own resolution; slices are squared, resized and chosen late.

    The spacing is not brought to a common one, as published: the network sees `size[0]` slices
    of 256 x 256 pixels, whatever they measure. `size[0]` is not part of the contract: a network
    that was trained with 48 slices may be shown 144, which is how HLIP evaluates.

    Args:
        size: Of the network's input (d, h, w): number of slices, then the central part of each.
        intensity: To [0, 1].
        mean: Subtracted at the end.
        std: Divides after that.
        resize: Side of the square to which slices are brought; None leaves them, padded or
            cropped to `size`.
        orientation: Letters of the array (d, h, w) before `slices_first`.
        slices_first: Make the axis of the largest spacing the first: the slices as they were
            scanned, not cuts across them. The first of `orientation` wins a tie.
        store_dtype: See `UnitDtype`.
    """

    def __init__(
        self,
        size: Sequence[int],
        intensity: Intensity,
        *,
        mean: float,
        std: float,
        resize: int | None = 256,
        orientation: str = "IPR",
        slices_first: bool = True,
        store_dtype: UnitDtype = "uint16",
    ) -> None:
        check_orientation(orientation)
        check_unit_dtype(store_dtype)
        if std <= 0 or min(size) < 1 or (resize is not None and resize < max(size[1:])):
            raise ValueError(
                f"size {list(size)} and std {std:g} must be positive, and resize ({resize}) at "
                "least the height and width that are cut out of it"
            )
        depth, height, width = (int(length) for length in size)
        self.size: Size3D = (depth, height, width)
        self.intensity = intensity
        self.mean, self.std, self.resize = float(mean), float(std), resize
        self.orientation, self.slices_first = orientation, slices_first
        self.store_dtype: UnitDtype = store_dtype

    def describe(self) -> dict[str, Any]:
        """State everything that changes a number, in JSON types; but not the number of slices."""
        return {
            "kind": "brain",
            "version": _VERSION,
            "slice_size": list(self.size[1:]),
            "intensity": self.intensity.describe(),
            "resize": self.resize,
            "interpolation": {"slice": "bilinear", "depth": "nearest-exact"},
            "mean": self.mean,
            "std": self.std,
            "orientation": self.orientation,
            "slices_first": self.slices_first,
            "store_dtype": self.store_dtype,
        }

    def prepare(self, scan: Scan, *, device: str = "cpu") -> Prepared:
        """Permute and flip to the wanted orientation and bring the numbers to [0, 1].

        An oblique scan is not resampled: each axis goes to the patient axis it is nearest to. A
        diffusion series of two channels (an array c d h w) is stacked along the slices.

        Args:
            scan: As read.
            device: Not used: percentiles need a sort, and the rest is little.

        Raises:
            ValueError: If the scan is not of the kind that the intensity rule is for, is empty,
                or has another number of channels.
        """
        self.intensity.check(scan)
        channels = self._channels(scan)
        first = channels[0]
        letters = self._letters(first, first_wins=len(channels) == 1)
        values = np.concatenate([_values(channel, letters) for channel in channels])
        unit = self.intensity(values)
        shape = (values.shape[0] // len(channels), *values.shape[1:])
        facts = {
            "affine": resampled_affine(first, letters, shape).tolist(),
            "orientation": letters,
            "num_channels": len(channels),
        }
        return Prepared({"image": pack_unit(unit, self.store_dtype)}, facts)

    def network_input(self, stored: Shaped[np.ndarray, "d h w"]) -> Float[Tensor, "1 D H W"]:
        """Choose the slices, pad them to squares, resize, cut the centre and normalise.

        Padding is 0, the darkest number, and its smaller half comes before.
        """
        chosen, place = np.unique(_nearest(len(stored), self.size[0]), return_inverse=True)
        slices = unpack_unit(stored[chosen])
        if self.resize is not None:
            side = max(slices.shape[1:])
            square = torch.from_numpy(_centred(slices, (side, side)))[:, None]
            resized = F.interpolate(square, size=(self.resize, self.resize), mode="bilinear")
            slices = resized[:, 0].numpy()
        image = torch.from_numpy(_centred(slices, self.size[1:])[place])
        return image.sub_(self.mean).div_(self.std)[None]

    def _channels(self, scan: Scan) -> list[Scan]:
        if scan.array.ndim == 3:
            return [scan]
        if scan.array.ndim == 4 and len(scan.array) == _CHANNELS:
            return [replace(scan, array=channel) for channel in scan.array]
        raise ValueError(
            f"the array is {' x '.join(map(str, scan.array.shape))}, expected one 3D volume or "
            f"{_CHANNELS} of them (b0 and diffusion-weighted); split the series into files first"
        )

    def _letters(self, scan: Scan, *, first_wins: bool) -> str:
        """Order the patient axes; the published rule for stacked channels breaks ties backwards.

        It looks along (x, y, z) where the other looks along (z, y, x), unless all are equal.
        """
        if not self.slices_first:
            return self.orientation
        _, axes = reorient(scan.array, scan.orientation, self.orientation)
        spacing = [scan.spacing_mm[axis] for axis in axes]
        widest = [i for i, length in enumerate(spacing) if length >= max(spacing) * _EQUAL]
        axis = widest[0] if first_wins or len(widest) == 3 else widest[-1]
        letters = self.orientation
        return letters[axis] + letters[:axis] + letters[axis + 1 :]


def _values(scan: Scan, letters: str) -> Float32[np.ndarray, "d h w"]:
    view, _ = reorient(scan.array, scan.orientation, letters)
    values = np.array(view, dtype=np.float32, order="C")
    if not scan.rescale.is_identity:
        values *= np.float32(scan.rescale.slope)
        values += np.float32(scan.rescale.intercept)
    return values


def _nearest(length: int, wanted: int) -> np.ndarray:
    """Give the indices that "nearest-exact" resizing takes, in torch's own arithmetic."""
    indices = torch.arange(length, dtype=torch.float32)[None, None]
    chosen = F.interpolate(indices, size=wanted, mode="nearest-exact")[0, 0]
    return chosen.numpy().astype(np.int64)


def _centred(
    slices: Float32[np.ndarray, "d h w"], size: tuple[int, int]
) -> Float32[np.ndarray, "d H W"]:
    """Pad with zeros and cut the centre, each axis as it needs."""
    if slices.shape[1:] == size:
        return slices
    image = np.zeros((len(slices), *size), np.float32)
    source, target = [slice(None)], [slice(None)]
    for length, wanted in zip(slices.shape[1:], size, strict=True):
        kept = min(length, wanted)
        source.append(slice((length - kept) // 2, (length - kept) // 2 + kept))
        target.append(slice((wanted - kept) // 2, (wanted - kept) // 2 + kept))
    image[tuple(target)] = slices[tuple(source)]
    return image
