"""Arrays that HSENet's published scripts made, or scripts like them, as they are."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from medvlp.data.recipe import Prepared, Recipe
from medvlp.data.scan import Scan, resampled_affine
from medvlp.data.unit_range import UnitDtype, check_unit_dtype, pack_unit, unpack_unit
from medvlp.types import Size3D

_VERSION = 1  # raise it when the same fields come to mean other numbers
_FEATURES = "slice_features"


class HSENetArrays(Recipe):
    """Volumes from 0 to 1 of one size, and features of slices beside them; nothing is resampled.

    Args:
        size: Of every volume (d, h, w).
        num_slices: Of the features; None reads none, for the first stage.
        feature_dim: Numbers for each slice.
        store_dtype: Of the volume, see `UnitDtype`.
    """

    def __init__(
        self,
        size: Sequence[int],
        *,
        num_slices: int | None = 32,
        feature_dim: int = 768,
        store_dtype: UnitDtype = "uint16",
    ) -> None:
        check_unit_dtype(store_dtype)
        depth, height, width = (int(length) for length in size)
        self.size: Size3D = (depth, height, width)
        self.num_slices, self.feature_dim = num_slices, feature_dim
        self.store_dtype: UnitDtype = store_dtype
        self.arrays = () if num_slices is None else (_FEATURES,)
        self.fields = ("image", *self.arrays)

    def describe(self) -> dict[str, Any]:
        """State everything that changes a number, in JSON types."""
        return {
            "kind": "hsenet arrays",
            "version": _VERSION,
            "size": list(self.size),
            "num_slices": self.num_slices,
            "feature_dim": self.feature_dim,
            "store_dtype": self.store_dtype,
        }

    def prepare(self, scan: Scan, *, device: str = "cpu") -> Prepared:
        """Check the arrays of one scan.

        Raises:
            ValueError: If one has another size, or the volume other numbers.
        """
        path, volume = scan.provenance.get("path", "the scan"), scan.array
        if volume.shape != self.size:
            raise ValueError(
                f"{path}: the volume is {volume.shape}, expected {self.size}: prepared by other "
                "rules; make it again, or set data.recipe.size"
            )
        low, high = float(volume.min()), float(volume.max())
        if low < 0 or high > 1:
            raise ValueError(
                f"{path}: numbers from {low:g} to {high:g}, expected 0 to 1 as HSENet's scripts "
                "write them; for raw scans take data=ct_rate_hsenet or bimcv_r_hsenet"
            )
        arrays = {"image": pack_unit(volume.astype(np.float32), self.store_dtype)}
        if self.num_slices is not None:
            features = scan.arrays[_FEATURES]
            if features.shape != (self.num_slices, self.feature_dim):
                raise ValueError(
                    f"{path}: its {_FEATURES} are {features.shape}, expected "
                    f"{(self.num_slices, self.feature_dim)}; make them of as many slices, or set "
                    "data.recipe.num_slices and feature_dim"
                )
            arrays[_FEATURES] = features.astype(np.float32)
        affine = resampled_affine(scan, scan.orientation, volume.shape)
        return Prepared(arrays, {"affine": affine.tolist()})

    def network_input(self, stored: Shaped[np.ndarray, "d h w"]) -> Float[Tensor, "1 d h w"]:
        """Give the volume as it is, from 0 to 1."""
        return torch.from_numpy(unpack_unit(stored))[None]
