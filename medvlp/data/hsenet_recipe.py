"""Preprocessing for HSENet: a volume of fixed size for its 3D tower, slices for its 2D encoder."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Shaped, UInt8
from torch import Tensor

from medvlp.data.body_volume import BodyVolume
from medvlp.data.hounsfield import check_hounsfield
from medvlp.data.image_recipe import ImageRecipe
from medvlp.data.recipe import Chance, Facts, Prepared, ReadField, Recipe
from medvlp.data.scan import Scan
from medvlp.data.slice_features import SliceFeatures
from medvlp.data.slice_stack import SliceStack
from medvlp.data.unit_range import UnitDtype, check_unit_dtype, pack_unit, unpack_unit
from medvlp.types import Size3D

_VERSION = 1  # raise it when the same fields come to mean other numbers


class HSENetRecipe(Recipe):
    """The body in `size` voxels from 0 to 1; beside it its slices, or features of them.

    Args:
        size: Of the volume (d, h, w).
        volume: How it is made.
        slices: How slices are chosen and made bytes; None makes none, for the first stage.
        slice_input: From a slice to the input of the 2D encoder, BiomedCLIP's by publication;
            grey becomes red, green and blue alike.
        slice_encoder: Makes features of the slices when data are prepared; None makes none.
        keep_slices: Store and hand out slices beside their features too.
        store_dtype: Of the volume, see `UnitDtype`.
    """

    def __init__(
        self,
        size: Sequence[int],
        volume: BodyVolume,
        *,
        slices: SliceStack | None = None,
        slice_input: ImageRecipe | None = None,
        slice_encoder: SliceFeatures | None = None,
        keep_slices: bool = False,
        store_dtype: UnitDtype = "uint16",
    ) -> None:
        check_unit_dtype(store_dtype)
        if min(size) < 1:
            raise ValueError(f"size is {list(size)}, expected positive numbers")
        if (slices is None) != (slice_input is None):
            raise ValueError("slices and slice_input belong together: give both or neither")
        if slice_encoder is not None and slices is None:
            raise ValueError("slice_encoder needs slices and slice_input; give them too")
        depth, height, width = (int(length) for length in size)
        self.size: Size3D = (depth, height, width)
        self.volume, self.slices, self.slice_input = volume, slices, slice_input
        self.slice_encoder = slice_encoder
        self.hands_slices = slices is not None and (slice_encoder is None or keep_slices)
        beside = {"slices": self.hands_slices, "slice_features": slice_encoder is not None}
        self.fields = ("image", *(name for name, there in beside.items() if there))
        self.store_dtype: UnitDtype = store_dtype

    def describe(self) -> dict[str, Any]:
        """State everything that changes a number, in JSON types."""
        # data prepared without features keep the hash they had before there were any
        encoded = {}
        if self.slice_encoder is not None:
            features = self.slice_encoder.describe()
            encoded = {"slice_encoder": features, "keep_slices": self.hands_slices}
        return {
            "kind": "hsenet",
            "version": _VERSION,
            "size": list(self.size),
            "volume": self.volume.describe(),
            "slices": None if self.slices is None else self.slices.describe(),
            "slice_input": None if self.slice_input is None else self.slice_input.describe(),
            "store_dtype": self.store_dtype,
            **encoded,
        }

    def prepare(self, scan: Scan, *, device: str = "cpu") -> Prepared:
        """Make the volume, and the slices from the same scan.

        Raises:
            ValueError: If the scan is no CT in HU, or is empty. What the published scripts did
                is repeated without a look at the HU.
        """
        if scan.modality != "CT":
            raise ValueError(f"a {scan.modality} scan, and this recipe is for CT")
        if self.volume.compat is None:
            check_hounsfield(scan.array, scan.rescale)
        volume, facts = self.volume(scan, self.size, device=device)
        arrays = {"image": pack_unit(volume, self.store_dtype)}
        if self.slices is not None:
            slices = self.slices(scan, device=device)
            if remark := self.slices.remark(scan):
                facts = {**facts, "corrections": [remark]}
            if self.slice_encoder is not None:
                encoded = self.slice_encoder(self.slices_input(slices), device=device)
                arrays["slice_features"] = encoded.numpy()
            if self.hands_slices:
                arrays["slices"] = slices
        return Prepared(arrays, facts)

    def network_input(self, stored: Shaped[np.ndarray, "d h w"]) -> Float[Tensor, "1 d h w"]:
        """Give the volume as it is, from 0 to 1."""
        return torch.from_numpy(unpack_unit(stored))[None]

    def inputs(
        self, read: ReadField, scan: Facts, *, target: Facts | None = None, generator: Chance = None
    ) -> dict[str, Tensor]:
        """Give "image" (1 d h w), and "slices" (m 3 h w) and "slice_features" (m f) if made.

        Raises:
            ValueError: If the scan's features are not of as many slices as the recipe chooses.
        """
        inputs = {"image": self.network_input(read("image", None))}
        if self.hands_slices:
            inputs["slices"] = self.slices_input(read("slices", None))
        if self.slices is not None and self.slice_encoder is not None:
            features = read("slice_features", None)
            if features.ndim != 2 or len(features) != self.slices.num_slices:
                raise ValueError(
                    f"{scan['scan_id']}: slice_features are {features.shape}, expected "
                    f"{self.slices.num_slices} slices; prepare the scan again"
                )
            inputs["slice_features"] = torch.from_numpy(features)
        return inputs

    def slices_input(self, stored: UInt8[np.ndarray, "m h w"]) -> Float[Tensor, "m 3 H W"]:
        """Bring stored slices to the input of the 2D encoder.

        Raises:
            ValueError: If the recipe has no slices.
        """
        from PIL import Image

        if self.slice_input is None:
            raise ValueError("this recipe makes no slices; give it slices and slice_input")
        pixels = [self.slice_input.evaluation_input(Image.fromarray(image)) for image in stored]
        return self.slice_input.finish(torch.stack(pixels))
