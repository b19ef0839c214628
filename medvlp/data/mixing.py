"""Several data sets as one stream: in full, or drawn with weights."""

from collections.abc import Sequence

import numpy as np


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

    def order(self, sizes: Sequence[int], seed: int, epoch: int) -> np.ndarray:
        """List the samples of an epoch by their position in the row of all sets.

        Args:
            sizes: Of the sets.
            seed: With the epoch, decides everything.
            epoch: Counted from 0.

        >>> sorted(Mixture().order([2, 3], seed=0, epoch=0).tolist())
        [0, 1, 2, 3, 4]
        """
        generator = np.random.default_rng((seed, epoch, 0))
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
