"""Patches with a lesion painted into each: thousands of lesions in one volume, one at a time."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float

from medvlp.data.lesion_augmentation import LesionAugmentation
from medvlp.data.lesion_patch import Frame, Volume, sample
from medvlp.data.lesion_recipe import LesionRecipe, PatchChannel, PatchGrid


class PaintedLesionRecipe(LesionRecipe):
    """Paint the lesion that a patch is about, an ellipsoid that fills its box.

    It is brighter or darker than what it lies in, by a number that follows from its box. The
    channel "lesion_mask" marks it: no mask is read. Nothing else is in the patch, as if the lesion
    were the only one of its volume.

    Args:
        channels: See `LesionRecipe`; "image" and perhaps "lesion_mask".
        contrast: Smallest and largest difference from what it lies in, in the image's own numbers
            (HU for CT).
        coarse: See `LesionRecipe`.
        fine: See `LesionRecipe`.
        image_dtype: See `LesionRecipe`.
        augment: See `LesionRecipe`.
    """

    def __init__(
        self,
        channels: Sequence[PatchChannel],
        contrast: Sequence[float],
        *,
        coarse: PatchGrid | None = None,
        fine: PatchGrid | None = None,
        image_dtype: Literal["int16", "float16", "float32"] = "int16",
        augment: LesionAugmentation | None = None,
    ) -> None:
        super().__init__(
            channels, coarse=coarse, fine=fine, image_dtype=image_dtype, augment=augment
        )
        if "pet" in self.fields:
            raise ValueError("painted lesions have no uptake: leave the channel 'pet' out")
        if len(contrast) != 2 or not 0 <= contrast[0] <= contrast[1]:
            raise ValueError(f"contrast is {list(contrast)}, expected two numbers from 0 up")
        self.contrast = (float(contrast[0]), float(contrast[1]))
        self.fields, self.companions = ("image",), ()

    def describe(self) -> dict[str, Any]:
        """State everything that changes a number, in JSON types."""
        return {**super().describe(), "painted": list(self.contrast)}

    def _values(
        self, field: str, volumes: Mapping[str, Volume], frame: Frame, target: Mapping[str, Any]
    ) -> np.ndarray:
        box = np.asarray(target["box_mm"], np.float64)
        lesion = ellipsoid(frame, box)
        if field == "lesion_mask":
            return lesion.astype(np.float32)
        values = sample(volumes["image"], frame)
        values[lesion] += _contrast(box, *self.contrast)
        return values


def ellipsoid(frame: Frame, box_mm: Float[np.ndarray, "6"]) -> Bool[np.ndarray, "x y z"]:
    """Mark the samples of a patch within an ellipsoid that fills a box; at least the nearest one.

    Args:
        frame: Of the patch.
        box_mm: Centre and sides, LPS.

    Returns:
        Nothing is marked where the centre lies outside the patch.
    """
    x, y, z = (
        np.arange(length) * (frame.axes[:, axis] * frame.spacing_mm[axis])[:, None]
        for axis, length in enumerate(frame.size)
    )
    world = x[:, :, None, None] + y[:, None, :, None] + z[:, None, None, :]
    offset, half = frame.origin_mm - box_mm[:3], box_mm[3:] / 2
    away = (((world + offset[:, None, None, None]) / half[:, None, None, None]) ** 2).sum(axis=0)
    inside = away <= 1
    if not inside.any():
        nearest = np.linalg.solve(frame.axes, -offset) / frame.spacing_mm
        index = np.floor(nearest + 0.5).astype(int)
        if np.all(index >= 0) and np.all(index < frame.size):
            inside[tuple(index)] = True
    return inside


def _contrast(box_mm: Float[np.ndarray, "6"], low: float, high: float) -> float:
    """Draw a difference and its sign from the box alone: the same in every epoch."""
    digest = hashlib.blake2b(box_mm.tobytes(), digest_size=8).digest()
    generator = np.random.default_rng(int.from_bytes(digest, "big"))
    return float(generator.uniform(low, high) * generator.choice((-1.0, 1.0)))
