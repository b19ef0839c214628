"""The preprocessing contract: one object with a hash.

`prepare` applies it, the cache stores what it made, a checkpoint carries its description, and
whoever uses the weights demands the same: a difference is an error that prints both.
"""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from medvlp.data.scan import Scan
from medvlp.types import Size3D

Region = tuple[slice, slice, slice]
"""Part of a volume along (d, h, w)."""

Chance = np.random.Generator | None
"""Source of chance while training; None is evaluation."""

Facts = Mapping[str, Any]
"""What the manifest knows of a scan, or of a lesion or question."""

ReadField = Callable[[str, Region | None], np.ndarray]
"""Reads a field of one scan from the cache, or only a region of it."""

ReadInto = Callable[[Region, np.ndarray], object]
"""Reads a region of the image of one scan into an array that is there."""


@dataclass(frozen=True)
class Prepared:
    """What a recipe makes of one scan, for the cache.

    Attributes:
        arrays: Field name to array; "image" is always there.
        facts: In JSON types, kept in the manifest: "affine", 4x4 from the index (d, h, w) of the
            stored image to RAS+ millimetres, "corrections", sentences about what was made good,
            if any, and whatever `inputs` will need.
    """

    arrays: Mapping[str, np.ndarray]
    facts: Mapping[str, Any] = field(default_factory=dict)


class Recipe(ABC):
    """From a raw scan to the network's input, in two halves with the cache between them.

    Attributes:
        size: Of the network's input (d, h, w).
        fields: What `prepare` makes, and `inputs` may read.
        companions: Names of the volumes that `prepare` must be given beside the scan.
        arrays: Names of the arrays likewise; `inputs` hands them on as they are stored.
        packed_dtype: Of the numbers that `pack` leaves to the device.
    """

    size: Size3D
    packed_dtype: torch.dtype = torch.float32
    fields: tuple[str, ...] = ("image",)
    companions: tuple[str, ...] = ()
    arrays: tuple[str, ...] = ()

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """State everything that changes a number, in JSON types."""

    def describe_stored(self) -> dict[str, Any]:
        """State everything that changes what `prepare` makes: recipes equal in this share it."""
        return self.describe()

    @abstractmethod
    def prepare(self, scan: Scan, *, device: str = "cpu") -> Prepared:
        """Make what the cache stores: reoriented, rescaled, resampled; the whole field of view.

        Args:
            scan: As read, with its companions.
            device: Where the dense part runs; other devices agree with the CPU to rounding.

        Raises:
            ValueError: If the scan cannot be right, with the reason.
        """

    def region(self, shape: Size3D, generator: Chance = None) -> Region:
        """Say which part of a stored volume the network will see: no more need be read.

        Here all of it.

        Args:
            shape: Of the stored image.
            generator: Source of chance of a random crop; None is evaluation.
        """
        return slice(0, shape[0]), slice(0, shape[1]), slice(0, shape[2])

    @abstractmethod
    def network_input(self, stored: Shaped[np.ndarray, "d h w"]) -> Float[Tensor, "c D H W"]:
        """Turn a stored image, or its `region`, into what the network takes."""

    def inputs(
        self, read: ReadField, scan: Facts, *, target: Facts | None = None, generator: Chance = None
    ) -> dict[str, Tensor]:
        """Make everything that a network is given of one scan.

        Args:
            read: Reads a field of this scan.
            scan: Its row of the manifest: "shape" and the facts of `prepare`.
            target: What the sample is about: a lesion, a question.
            generator: See `Chance`.

        Returns:
            Field name to tensor; "image" is (c d h w).
        """
        image = self.network_input(self._read_region(read, scan, generator))
        arrays = {name: torch.from_numpy(read(name, None)) for name in self.arrays}
        return {"image": image} | arrays

    @property
    def can_defer(self) -> bool:
        """Whether the dense half can be left to the device, by `pack` here and `finish` there."""
        return False

    def pack(self, read_into: ReadInto, shape: Size3D, out: Shaped[np.ndarray, "1 D H W"]) -> None:
        """Bring a stored image to the network's size and leave its numbers as they are.

        Args:
            read_into: Reads a region of it.
            shape: Of the stored image.
            out: Of `size` and `packed_dtype`; all of it is filled.
        """
        raise ValueError(f"{type(self).__name__} cannot leave its dense half to the device")

    def finish(self, image: Shaped[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Turn what `pack` made into what `network_input` makes, on the device it lies on."""
        raise ValueError(f"{type(self).__name__} cannot leave its dense half to the device")

    def _read_region(
        self, read: ReadField, scan: Facts, generator: Chance, name: str = "image"
    ) -> np.ndarray:
        depth, height, width = scan["shape"]
        region = self.region((depth, height, width), generator)
        whole = all(
            part.stop - part.start == n for part, n in zip(region, scan["shape"], strict=True)
        )
        return read(name, None if whole else region)

    @property
    def hash(self) -> str:
        """SHA-256 over the description as canonical JSON, 16 hexadecimal digits."""
        return recipe_hash(self.describe())

    @property
    def stored_hash(self) -> str:
        """SHA-256 over what is stored, likewise: the name of the folder in the cache."""
        return recipe_hash(self.describe_stored())


def recipe_hash(description: Mapping[str, Any]) -> str:
    """Hash a recipe's description; the order of its keys does not matter.

    >>> recipe_hash({"a": 1, "b": 2}) == recipe_hash({"b": 2, "a": 1})
    True
    """
    text = json.dumps(description, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def require_same_recipe(
    ours: Mapping[str, Any], theirs: Mapping[str, Any], *, ours_from: str, theirs_from: str
) -> None:
    """Demand that two descriptions are equal.

    Args:
        ours: From `Recipe.describe()`.
        theirs: From a manifest or a checkpoint.
        ours_from: Where `ours` stands, for the message.
        theirs_from: Where `theirs` stands, for the message.

    Raises:
        ValueError: With both, side by side; differing lines are marked.
    """
    # through JSON, so that a tuple equals the list it was written as
    ours, theirs = (json.loads(json.dumps(description)) for description in (ours, theirs))
    if ours == theirs:
        return
    rows = [("", ours_from, theirs_from)]
    for key in sorted(ours.keys() | theirs.keys()):
        left, right = (str(description.get(key, "-")) for description in (ours, theirs))
        rows.append((f"{key}{'' if left == right else ' <-- differs'}", left, right))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    table = "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
    raise ValueError(
        f"two preprocessing recipes differ; weights and data must share one:\n{table}\n"
        "choose the recipe of the weights (data/recipe=...), and prepare the data with it"
    )
