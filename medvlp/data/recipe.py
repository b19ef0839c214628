"""The preprocessing contract: one object with a hash.

`prepare` applies it, the cache stores what it made, a checkpoint carries its description, and
whoever uses the weights demands the same: a difference is an error that prints both.
"""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped
from torch import Tensor

from medvlp.data.scan import Scan
from medvlp.types import Size3D


class Recipe(ABC):
    """From a raw scan to the network's input, in two halves with the cache between them.

    Attributes:
        size: Of the network's input (d, h, w).
    """

    size: Size3D

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """State everything that changes a number, in JSON types."""

    @abstractmethod
    def prepare(self, scan: Scan) -> Shaped[Tensor, "d h w"]:
        """Make what the cache stores: reoriented, rescaled, resampled; the whole field of view.

        Raises:
            ValueError: If the scan cannot be right, with the reason.
        """

    @abstractmethod
    def region(self, shape: Size3D) -> tuple[slice, slice, slice]:
        """Say which part of a stored volume the network will see: no more need be read."""

    @abstractmethod
    def network_input(self, stored: Shaped[np.ndarray, "d h w"]) -> Float[Tensor, "1 D H W"]:
        """Turn a stored volume, or its `region`, into what the network takes."""

    @property
    def hash(self) -> str:
        """SHA-256 over the description as canonical JSON, 16 hexadecimal digits."""
        return recipe_hash(self.describe())


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
