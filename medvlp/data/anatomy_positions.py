"""Random positions in a label map, held-out ones in blocks of their own."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, Integer, Shaped

from medvlp.data.records import SPLITS
from medvlp.types import Spacing3D


@dataclass(frozen=True, eq=False)
class Positions:
    """Positions, one a row.

    Attributes:
        index: Continuous index (d, h, w) into the label map.
        label: Of the voxel that holds it.
        block: Number of its block.
        split: "train", "val" or "test".
        without: Label and split for which there is none.
    """

    index: Float[np.ndarray, "n 3"]
    label: Int[np.ndarray, " n"]
    block: Int[np.ndarray, " n"]
    split: Shaped[np.ndarray, " n"]
    without: list[tuple[int, str]]


class PositionRule:
    """Cut a volume into cubes, hold some of them out, and draw as many positions of each label.

    Args:
        per_label: Positions of each label for training, validation and test.
        block_mm: Side of the cubes.
        held_out: Shares of the cubes for validation and test.
        margin_mm: Training positions are at least so far from cubes that are held out.
        border_mm: Only positions so near to another label, 0 for any: it takes more than a rough
            idea of where one is to name them.
        seed: Of cubes and positions.
    """

    def __init__(
        self,
        per_label: Sequence[int] = (40, 10, 10),
        block_mm: float = 24.0,
        *,
        held_out: Sequence[float] = (0.15, 0.15),
        margin_mm: float = 3.0,
        border_mm: float = 0.0,
        seed: int = 0,
    ) -> None:
        if len(per_label) != 3 or min(per_label) < 0:
            raise ValueError(f"per_label is {list(per_label)}, expected three numbers from 0 up")
        if len(held_out) != 2 or min(held_out) < 0 or sum(held_out) >= 1:
            raise ValueError(f"held_out is {list(held_out)}, expected two shares that leave some")
        if block_mm <= 0 or margin_mm < 0 or border_mm < 0:
            raise ValueError(
                f"block_mm is {block_mm}, margin_mm {margin_mm} and border_mm {border_mm}: "
                "expected a side above 0 and distances from 0 up"
            )
        self.per_label = dict(zip(SPLITS, map(int, per_label), strict=True))
        self.block_mm, self.held_out = float(block_mm), (float(held_out[0]), float(held_out[1]))
        self.margin_mm, self.border_mm, self.seed = float(margin_mm), float(border_mm), seed

    def describe(self) -> dict[str, Any]:
        """State all of the rule, in JSON types."""
        return {key: list(v) if isinstance(v, tuple) else v for key, v in vars(self).items()}

    def draw(
        self,
        labels: Integer[np.ndarray, "d h w"],
        spacing_mm: Spacing3D,
        wanted: Iterable[int],
        *,
        structures: Integer[np.ndarray, "d h w"] | None = None,
    ) -> Positions:
        """Draw positions.

        Args:
            labels: The label map.
            spacing_mm: Of its voxels, along (d, h, w).
            wanted: Labels that get positions.
            structures: Whose borders count, where they are not those of the labels.
        """
        chance = np.random.default_rng((self.seed, 0))
        blocks, splits = self._blocks(labels.shape, spacing_mm, chance)
        bordered = labels if structures is None else structures
        allowed = self._allowed(bordered, splits[blocks], spacing_mm)
        found: list[tuple[np.ndarray, int, int]] = []
        without: list[tuple[int, str]] = []
        for label in sorted(wanted):
            voxels = np.argwhere((labels == label) & (allowed >= 0))
            part = allowed[tuple(voxels.T)]
            for number, split in enumerate(SPLITS):
                own, count = voxels[part == number], self.per_label[split]
                if len(own) and count:
                    chosen = chance.choice(len(own), count, replace=len(own) < count)
                    found.append((own[chosen], label, number))
                elif count:
                    without.append((label, split))
        voxels = np.concatenate([one for one, _, _ in found])
        return Positions(
            voxels + chance.uniform(-0.5, 0.5, voxels.shape),
            np.concatenate([np.full(len(one), label) for one, label, _ in found]),
            blocks[tuple(voxels.T)],
            np.concatenate([np.full(len(one), SPLITS[number]) for one, _, number in found]),
            without,
        )

    def _blocks(
        self, shape: Sequence[int], spacing_mm: Spacing3D, chance: np.random.Generator
    ) -> tuple[Int[np.ndarray, "d h w"], Int[np.ndarray, " k"]]:
        """Number the cube of each voxel, and tell the split of each cube."""
        axes = [
            (np.arange(length) * spacing // self.block_mm).astype(np.int64)
            for length, spacing in zip(shape, spacing_mm, strict=True)
        ]
        counts = [int(axis[-1]) + 1 for axis in axes]
        blocks = np.ravel_multi_index(np.ix_(*axes), counts)
        val, test = self.held_out
        shares = np.cumsum([1 - val - test, val])
        return blocks, np.searchsorted(shares, chance.random(int(np.prod(counts))), side="right")

    def _allowed(
        self,
        labels: Integer[np.ndarray, "d h w"],
        split: Int[np.ndarray, "d h w"],
        spacing_mm: Spacing3D,
    ) -> Int[np.ndarray, "d h w"]:
        """Give the split of each voxel, -1 for those that no position may have."""
        from scipy.ndimage import distance_transform_edt

        allowed = split.copy()
        if self.margin_mm and (split > 0).any():
            away = distance_transform_edt(split == 0, sampling=spacing_mm)
            allowed[(split == 0) & (np.asarray(away) < self.margin_mm)] = -1
        if self.border_mm:
            allowed[~near_another(labels, self.border_mm, spacing_mm)] = -1
        return allowed


def near_another(
    labels: Integer[np.ndarray, "d h w"], distance_mm: float, spacing_mm: Spacing3D
) -> Bool[np.ndarray, "d h w"]:
    """Mark labelled voxels with another label within a cube of half side `distance_mm`.

    >>> near_another(np.array([[[1, 1, 1, 0, 2]]]), 2.0, (1.0, 1.0, 1.0)).tolist()
    [[[False, False, True, False, True]]]
    """
    from scipy.ndimage import maximum_filter, minimum_filter

    size = [2 * round(distance_mm / spacing) + 1 for spacing in spacing_mm]
    known = labels.astype(np.int64)
    highest = maximum_filter(known, size)
    unlabelled = known.max() + 1  # the filters compute in floats, which hold no largest integer
    lowest = minimum_filter(np.where(known > 0, known, unlabelled), size)
    return (known > 0) & ((highest != known) | (lowest != known))
