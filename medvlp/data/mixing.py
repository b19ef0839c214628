"""Several data sets as one stream: in full, or drawn with weights."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Int
from numpy import ndarray

from medvlp.data.batching import FixedSize, SampleFacts


class Mixture:
    """Orders the samples of several sets that stand in a row, epoch by epoch.

    Without weights an epoch shows every sample once. With weights it draws the set of each place
    by its weight, and goes through every set in a new permutation each time it is exhausted; how
    many samples make an epoch is then a choice.

    Args:
        weights: One per set, not all zero; None shows every sample once.
        epoch_size: Samples of an epoch with weights; None takes the number there are.
    """

    def __init__(
        self, weights: Sequence[float] | None = None, *, epoch_size: int | None = None
    ) -> None:
        if weights is not None and (min(weights) < 0 or not any(weights)):
            raise ValueError(f"weights are {list(weights)}, expected none below and one above 0")
        if epoch_size is not None and (weights is None or epoch_size < 1):
            raise ValueError(
                f"epoch_size is {epoch_size}: it must be positive, and needs weights; without "
                "them an epoch shows every sample once"
            )
        self.weights = None if weights is None else tuple(map(float, weights))
        self.epoch_size = epoch_size

    def length(self, sizes: Sequence[int]) -> int:
        """Count the samples of an epoch."""
        return self.epoch_size or sum(sizes)

    def order(self, sizes: Sequence[int], generator: np.random.Generator) -> Int[ndarray, " s"]:
        """List the samples of an epoch by their position in the row of all sets.

        >>> sorted(Mixture().order([2, 3], np.random.default_rng(0)).tolist())
        [0, 1, 2, 3, 4]
        """
        if self.weights is None:
            return generator.permutation(sum(sizes))
        if len(self.weights) != len(sizes):
            raise ValueError(f"{len(self.weights)} weights for {len(sizes)} data sets")
        shares = np.array(self.weights) / sum(self.weights)
        chosen = generator.choice(len(sizes), self.length(sizes), p=shares)
        starts = np.concatenate([[0], np.cumsum(sizes)])
        order = np.empty(len(chosen), np.int64)
        for number, size in enumerate(sizes):
            places = np.flatnonzero(chosen == number)
            rounds = -(-len(places) // size)
            stream = [generator.permutation(size) for _ in range(rounds)]
            if stream:
                order[places] = starts[number] + np.concatenate(stream)[: len(places)]
        return order


class Mixed(FixedSize):
    """Batches of a mixture of sets, for training.

    Args:
        mixture: How the sets are mixed.
        sizes: Of the sets.
    """

    def __init__(self, mixture: Mixture, sizes: Sequence[int]) -> None:
        self.mixture, self.sizes = mixture, tuple(sizes)

    def num_full_batches(self, facts: SampleFacts, batch_size: int) -> int:
        """See `Batching.num_full_batches`."""
        return self.mixture.length(self.sizes) // batch_size

    def batches(
        self,
        order: Int[ndarray, " s"],
        facts: SampleFacts,
        batch_size: int,
        *,
        generator: np.random.Generator | None,
    ) -> list[Int[ndarray, " b"]]:
        """See `Batching.batches`; with weights the mixture's order takes the place of `order`."""
        if self.mixture.weights is not None and generator is not None:
            order = self.mixture.order(self.sizes, generator)
        return super().batches(order, facts, batch_size, generator=generator)

    def describe(self) -> dict[str, Any]:
        """Name what decides the batches."""
        mixture = {"weights": self.mixture.weights, "epoch_size": self.mixture.epoch_size}
        return {"kind": type(self).__name__, **mixture, "sizes": list(self.sizes)}
