"""Samples in the order of their shards, for storage that is slow to find single files."""

import random
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, chain, cycle, islice
from typing import TypeVar

import numpy as np
from jaxtyping import Int
from numpy import ndarray

from medvlp.data.mixing import Component, Mixture, named_weights

_Item = TypeVar("_Item")
_HELD, _FIRST_HELD = 2000, 500  # shards in the buffer, and when it begins to give them out


class ShardOrder(Mixture):
    """A few shards at a time, in the order in which UniMed-CLIP's loader reads them.

    The shards come as github.com/mbzuai-oryx/UniMed-CLIP orders them: all of them once, or drawn
    with replacement by weight. The samples of `window` shards in a row are shuffled together. So
    all ranks and workers read only these at any time, and the order is the same for any number of
    them.

    Args:
        weights: Of the sets, by name or in their order; each shard of a set is as likely as its
            weight says. None passes through all shards once, as the published runs do.
        epoch_size: Samples of an epoch; a second pass follows where there are fewer. None takes
            what there are. Published: 1000 for each shard, though the last of a set holds less.
        window: Shards that are mixed. Published: one for each loader worker of each rank, 128.
        workers: Loader workers of each rank in the published run. An epoch then has as many batches
            as there: rounded up, not down, and to a multiple of this. None rounds down.
    """

    def __init__(
        self,
        weights: Sequence[float] | Mapping[str, float] | None = None,
        *,
        epoch_size: int | None = None,
        window: int = 128,
        workers: int | None = None,
    ) -> None:
        if window < 1 or (workers or 0) < 0 or (epoch_size is not None and epoch_size < 1):
            raise ValueError(
                f"window is {window}, workers {workers} and epoch_size {epoch_size}; expected at "
                "least 1, 0 and 1"
            )
        super().__init__(weights, weight_of="sample")
        self.epoch_size, self.window, self.workers = epoch_size, window, workers

    def num_batches(self, components: Sequence[Component], batch_size: int) -> int:
        """Count the batches of an epoch."""
        samples = self.epoch_size or sum(len(one.shards) for one in components)
        if self.workers is None:
            return samples // batch_size
        return published_batches(samples, batch_size, self.workers)

    def order(
        self, components: Sequence[Component], batch_size: int, *, seed: int, epoch: int
    ) -> Int[ndarray, " s"]:
        """List the samples of an epoch by their position in the row of all sets."""
        missing = self.num_batches(components, batch_size) * batch_size
        windows = self._windows(components, seed + epoch)
        generator = np.random.default_rng((seed, epoch, 2))
        parts: list[ndarray] = []
        while missing > 0:
            positions = np.concatenate([np.arange(*shard) for shard in next(windows)])
            parts.append(generator.permutation(positions)[:missing])
            missing -= len(parts[-1])
        return np.concatenate(parts)

    def _windows(
        self, components: Sequence[Component], seed: int
    ) -> Iterator[list[tuple[int, int]]]:
        """Yield the shards, as ranges of positions, that are mixed with each other, for ever."""
        of_sets = shard_ranges(components)
        shards = list(chain.from_iterable(of_sets))
        if self.weights is None:  # windows do not reach into the next pass
            order = published_order(shards, seed)
            starts = range(0, len(order), self.window)
            return cycle([order[start : start + self.window] for start in starts])
        named = named_weights(self.weights, {one.name: len(one.shards) for one in components})
        pairs = zip(named.values(), of_sets, strict=True)
        weights = [weight for weight, own in pairs for _ in own]
        draws = published_draws(shards, weights, random.Random(seed))
        return iter(lambda: list(islice(draws, self.window)), [])


def shard_ranges(components: Sequence[Component]) -> list[list[tuple[int, int]]]:
    """List the shards of each set: first position, and the one behind the last.

    >>> shard_ranges([Component("a", "", np.array([0, 0, 4])), Component("b", "", np.array([1]))])
    [[(0, 2), (2, 3)], [(3, 4)]]
    """
    ranges, start = [], 0
    for one in components:
        ends = np.flatnonzero(np.diff(one.shards, append=-1)) + 1  # none where there is no sample
        starts = np.concatenate([[0], ends])
        own = zip((start + starts).tolist(), (start + ends).tolist(), strict=False)
        ranges.append(list(own))
        start += len(one.shards)
    return ranges


def published_order(shards: Sequence[_Item], seed: int) -> list[_Item]:
    """Shuffle shards as the published loader does.

    A fixed shuffle comes first, then one through a buffer that follows `seed`: the seed of the run
    plus the number of the epoch.
    """
    shuffled = list(shards)
    random.Random(1).shuffle(shuffled)
    generator, waiting = random.Random(seed), iter(shuffled)
    held: list[_Item] = []
    order: list[_Item] = []
    for shard in waiting:
        held.append(shard)
        if len(held) < _HELD:
            held.extend(islice(waiting, 1))
        if len(held) >= _FIRST_HELD:
            order.append(_drawn(held, generator))
    return order + [_drawn(held, generator) for _ in range(len(held))]


def published_draws(
    shards: Sequence[_Item], weights: Sequence[float], generator: random.Random
) -> Iterator[_Item]:
    """Draw shards with replacement, for ever, each by its weight."""
    summed = list(accumulate(weights))
    while True:
        yield generator.choices(shards, cum_weights=summed)[0]


def published_batches(num_samples: int, batch_size: int, workers: int) -> int:
    """Count the batches of a published epoch: a multiple of the loader workers of a rank.

    >>> published_batches(5_282_000, 16 * 128, 8)
    2584
    """
    batches, workers = -(-num_samples // batch_size), max(workers, 1)
    return -(-batches // workers) * workers


def _drawn(held: list[_Item], generator: random.Random) -> _Item:
    """Take one out; the last one moves to its place."""
    place = generator.randint(0, len(held) - 1)
    held[place], held[-1] = held[-1], held[place]
    return held.pop()
