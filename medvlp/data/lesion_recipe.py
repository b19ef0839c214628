"""Preprocessing of HCL-AL: patches around a lesion, cut from CT, PET and lesion mask."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from medvlp.data.lesion_augmentation import STILL, LesionAugmentation, PatchDraw
from medvlp.data.lesion_channel import Match, lesion_channel
from medvlp.data.lesion_geometry import Compat
from medvlp.data.lesion_patch import Frame, Volume, frame_around, normalise, sample, volumes_of
from medvlp.data.lesion_storage import (
    grid_of,
    require_overlap,
    stored_image,
    stored_mask,
    stored_pet,
)
from medvlp.data.recipe import Prepared, ReadField, Recipe, Region
from medvlp.data.scan import Scan
from medvlp.types import Size3D

_LOG = logging.getLogger(__name__)
_FIELDS = ("image", "pet", "lesion_mask")
_VERSION = 2  # raise it when the same fields come to mean other numbers


class PatchChannel:
    """One channel of a patch and its normalisation, (v - mean) / (std + 1e-8).

    Args:
        field: "image" (CT in HU, or MR), "pet" (SUV) or "lesion_mask".
        mean: Subtracted; None takes mean and deviation of the whole volume above 0, which MR
            needs, whose numbers have no unit.
        std: Divides.
        clip: To [-1, 1] afterwards.
    """

    def __init__(
        self,
        field: Literal["image", "pet", "lesion_mask"],
        mean: float | None = 0.0,
        std: float | None = 1.0,
        *,
        clip: bool = False,
    ) -> None:
        if (mean is None) != (std is None) or (std is not None and std <= 0):
            raise ValueError(
                f"channel {field!r} has mean {mean} and std {std}: give both (std above 0), or "
                "null for both to take those of the volume"
            )
        self.field, self.mean, self.std, self.clip = field, mean, std, clip

    def describe(self) -> dict[str, Any]:
        """State everything that changes a number."""
        return {"field": self.field, "mean": self.mean, "std": self.std, "clip": self.clip}


class PatchGrid:
    """Size of a patch.

    Args:
        size: Samples along x, y, z of the LPS world.
        spacing_mm: Their distance.
    """

    def __init__(self, size: Sequence[int], spacing_mm: Sequence[float]) -> None:
        if len(size) != 3 or len(spacing_mm) != 3 or min(size) < 1 or min(spacing_mm) <= 0:
            raise ValueError(
                f"patch size {list(size)} and spacing_mm {list(spacing_mm)}: expected three "
                "positive numbers each, along x, y, z"
            )
        self.size: Size3D = (int(size[0]), int(size[1]), int(size[2]))
        self.spacing_mm = tuple(float(length) for length in spacing_mm)

    def describe(self) -> dict[str, Any]:
        """State everything that changes a number."""
        return {"size": list(self.size), "spacing_mm": list(self.spacing_mm)}


class LesionRecipe(Recipe):
    """Whole volumes in the cache, each as it lies; patches of channels around a lesion come out.

    `inputs` needs a lesion as target (`medvlp.data.sampling.EachLesion`). It gives
    "lesion_coarse" and "lesion_fine" (c x y z), those that have a grid, and as "image" the first
    of them.

    Args:
        channels: In the order of the network; "lesion_mask" marks the lesion that is meant.
        coarse: Grid of the large patch; None leaves it out.
        fine: Grid of the small patch; None leaves it out.
        image_dtype: How CT ("int16": whole HU) or MR (a float type) is stored.
        pet_dtype: How SUV is stored; "float16" is off by up to 0.05 percent.
        augment: Random changes while training; not part of the contract with the weights.
        compat: "published" repeats the published code to the last quirk (Gao et al., IEEE TMI
            2025), for its weights; None does right: see `lesion_channel` and `frame_around`.
    """

    def __init__(
        self,
        channels: Sequence[PatchChannel],
        *,
        coarse: PatchGrid | None = None,
        fine: PatchGrid | None = None,
        image_dtype: Literal["int16", "float16", "float32"] = "int16",
        pet_dtype: Literal["float16", "float32"] = "float16",
        augment: LesionAugmentation | None = None,
        compat: Literal["published"] | None = None,
    ) -> None:
        names = [channel.field for channel in channels]
        if "image" not in names or len(set(names)) < len(names) or not set(names) <= set(_FIELDS):
            raise ValueError(
                f"channels are {names}, expected 'image', and at most once each 'pet' and "
                "'lesion_mask'"
            )
        grids = {"coarse": coarse, "fine": fine}
        self.grids = {name: grid for name, grid in grids.items() if grid is not None}
        if not self.grids:
            raise ValueError("neither a coarse nor a fine patch: give the grid of at least one")
        self.channels = tuple(channels)
        self.fields = tuple(name for name in _FIELDS if name in names)
        self.companions = self.fields[1:]
        self.size = next(iter(self.grids.values())).size
        self.image_dtype, self.pet_dtype = image_dtype, pet_dtype
        self.augment = augment
        self.compat: Compat = compat
        self._not_found = 0

    def describe(self) -> dict[str, Any]:
        """State everything that changes a number, in JSON types."""
        return {
            "kind": "lesion",
            "version": _VERSION,
            "channels": [channel.describe() for channel in self.channels],
            "patches": {name: grid.describe() for name, grid in self.grids.items()},
            "image_dtype": self.image_dtype,
            "pet_dtype": self.pet_dtype,
            "compat": self.compat,
        }

    def describe_stored(self) -> dict[str, Any]:
        """Leave out how patches are cut and normalised: that is done to what is stored."""
        measured = [channel.field for channel in self.channels if channel.mean is None]
        return {
            "kind": "lesion",
            "version": _VERSION,
            "fields": list(self.fields),
            "statistics": measured,
            "image_dtype": self.image_dtype,
            "pet_dtype": self.pet_dtype,
        }

    def prepare(self, scan: Scan, *, device: str = "cpu") -> Prepared:
        """Take values and lattices of the scan and its companions; nothing is resampled.

        Raises:
            ValueError: If numbers cannot be what they are said to be, a companion is missing or
                lies elsewhere.
        """
        scans = {"image": scan, **scan.companions}
        missing = [name for name in self.fields if name not in scans]
        if missing:
            raise ValueError(f"the recipe needs {' and '.join(missing)} beside the scan")
        scans = {name: scans[name] for name in self.fields}
        grids = {name: grid_of(part) for name, part in scans.items()}
        require_overlap(grids)
        arrays: dict[str, np.ndarray] = {}
        for name, part in scans.items():
            if name == "image":
                arrays[name] = stored_image(part, self.image_dtype)
            else:
                is_pet = name == "pet"
                arrays[name] = stored_pet(part, self.pet_dtype) if is_pet else stored_mask(part)
        facts = {"affine": grids["image"]["affine"], "grids": grids}
        return Prepared(arrays, {**facts, "statistics": self._statistics(arrays)})

    def region(self, shape: Size3D, generator: np.random.Generator | None = None) -> Region:
        """Return all of it: which part a patch needs depends on the lesion, see `inputs`."""
        return slice(0, shape[0]), slice(0, shape[1]), slice(0, shape[2])

    def network_input(self, stored: Shaped[np.ndarray, "d h w"]) -> Float[Tensor, "1 D H W"]:
        """Normalise a stored image as the patches are; for pictures, not for the network."""
        channel = next(channel for channel in self.channels if channel.field == "image")
        statistics = {} if channel.mean is not None else {"image": _mean_and_std(stored)}
        return torch.from_numpy(_normalised(stored, channel, statistics))[None]

    def inputs(
        self,
        read: ReadField,
        scan: Mapping[str, Any],
        *,
        target: Mapping[str, Any] | None = None,
        generator: np.random.Generator | None = None,
    ) -> dict[str, Tensor]:
        """Cut the patches of one lesion; only the parts of the volumes that they touch are read.

        Args:
            read: Reads a field of this scan.
            scan: Its row of the manifest, with the facts of `prepare`.
            target: A lesion: "box_mm" and "label".
            generator: Source of the augmentation; None is evaluation.

        Raises:
            ValueError: If there is no target.
        """
        if target is None or "box_mm" not in target:
            raise ValueError(
                "patches need a lesion, and this sample has none; let samples be lesions: "
                "data.scans.train and .evaluation: medvlp.data.sampling.EachLesion"
            )
        volumes = volumes_of(read, scan["grids"])
        statistics: Mapping[str, Sequence[float]] = scan.get("statistics", {})
        inputs: dict[str, Tensor] = {}
        for stage in self.grids:
            draw = STILL
            if generator is not None and self.augment is not None:
                draw = self.augment.draw(generator)
            patch = self._patch(volumes, target, statistics=statistics, stage=stage, draw=draw)
            inputs[f"lesion_{stage}"] = torch.from_numpy(patch)
        return {"image": next(iter(inputs.values())), **inputs}

    def _patch(
        self,
        volumes: Mapping[str, Volume],
        target: Mapping[str, Any],
        *,
        statistics: Mapping[str, Sequence[float]],
        stage: str,
        draw: PatchDraw,
    ) -> Float[np.ndarray, "c x y z"]:
        grid = self.grids[stage]
        box = np.asarray(target["box_mm"], np.float64)
        spacing = np.asarray(grid.spacing_mm) / draw.magnification
        frame = frame_around(
            box[:3] + draw.shift_mm, spacing, grid.size, axes=draw.axes, compat=self.compat
        )
        # as published only the coarse patch goes by the label, the fine one always by the box
        by_label = stage == "coarse" or self.compat is None
        meant = target if by_label else {**target, "label": 0}
        patch = np.empty((len(self.channels), *grid.size), np.float32)
        for index, channel in enumerate(self.channels):
            values = self._values(channel.field, volumes, frame, meant)
            patch[index] = _normalised(values, channel, statistics)
        return patch

    def _values(
        self, field: str, volumes: Mapping[str, Volume], frame: Frame, target: Mapping[str, Any]
    ) -> np.ndarray:
        """Cut one channel, not normalised yet."""
        if field != "lesion_mask":
            return sample(volumes[field], frame)
        box, label = np.asarray(target["box_mm"], np.float64), int(target.get("label", 0))
        found = lesion_channel(volumes[field], frame, box, label=label, compat=self.compat)
        self._count(found.match, target)
        return found.mask

    def _count(self, match: Match, target: Mapping[str, Any]) -> None:
        """Say that the mask has no lesion in the box: the first time, the tenth, ..."""
        if match != "none":
            return
        self._not_found += 1
        count = self._not_found
        if count == 10 ** (len(str(count)) - 1):
            _LOG.warning(
                "%d patches so far without a lesion: nothing of the mask lies in the box, the "
                "last time of lesion %s at %s mm (LPS); do boxes and masks belong together?",
                count,
                target.get("lesion_id", "?"),
                [round(float(value), 1) for value in target["box_mm"][:3]],
            )

    def _statistics(self, arrays: Mapping[str, np.ndarray]) -> dict[str, list[float]]:
        wanted = [channel.field for channel in self.channels if channel.mean is None]
        return {name: _mean_and_std(arrays[name]) for name in wanted}


def _mean_and_std(array: np.ndarray) -> list[float]:
    """Take mean and deviation of what is above 0 (air is 0 in MR)."""
    values = array[array > 0].astype(np.float64)
    if not len(values):
        raise ValueError("the volume holds nothing above 0")
    return [float(values.mean()), float(values.std())]


def _normalised(
    values: np.ndarray, channel: PatchChannel, statistics: Mapping[str, Sequence[float]]
) -> Float[np.ndarray, "x y z"]:
    mean, std = channel.mean, channel.std
    if mean is None or std is None:
        mean, std = statistics[channel.field]
    return normalise(values, mean, std, clip=channel.clip)
