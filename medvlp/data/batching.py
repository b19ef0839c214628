"""How the samples of an epoch are grouped into global batches."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int
from numpy import ndarray
from numpy.random import Generator

Order = Int[ndarray, " s"]
"""Numbers of samples, as an epoch has them."""

Batch = Int[ndarray, " b"]
"""Numbers of the samples of one batch."""


@dataclass(frozen=True)
class SampleFacts:
    """What is known of the samples of a split before any is read.

    Attributes:
        num_scans: Scans that each sample shows.
        text_length: Characters of each sample's report.
        digest: Hash of all this and of the sample ids: an interrupted epoch goes on only with the
            same samples.
        places: Of samples that are lesions at one place each: the lesion (study and lesion id),
            its coarse place and fine word. Empty for others.
    """

    num_scans: Int[ndarray, " s"]
    text_length: Int[ndarray, " s"]
    digest: str = ""
    places: Sequence[tuple[str, str, str]] = ()

    @classmethod
    def uniform(cls, num_samples: int) -> "SampleFacts":
        """Describe samples of one scan each, whose texts have no known length."""
        return cls(np.ones(num_samples, np.int64), np.zeros(num_samples, np.int64))

    def __len__(self) -> int:
        return len(self.num_scans)


class Batching(ABC):
    """Cuts an order of samples into global batches: the same for any number of ranks.

    Attributes:
        repeats: Whether an epoch may show a sample more than once; it then looks anew each time.
    """

    repeats = False

    @abstractmethod
    def check(self, facts: SampleFacts, batch_size: int, *, world_size: int) -> None:
        """Raise a ValueError if the samples cannot be grouped or the ranks cannot share them."""

    @abstractmethod
    def num_full_batches(self, facts: SampleFacts, batch_size: int) -> int:
        """Say how many batches every order of the samples gives at least, incomplete ones apart.

        A training epoch has this many, so that its length is known before it begins.
        """

    def order(self, facts: SampleFacts, batch_size: int, *, seed: int, epoch: int) -> Order:
        """Shuffle the samples of a training epoch; the same on every rank."""
        return np.random.default_rng((seed, epoch, 0)).permutation(len(facts))

    @abstractmethod
    def batches(
        self, order: Order, facts: SampleFacts, batch_size: int, *, generator: Generator | None
    ) -> list[Batch]:
        """Cut the order of an epoch into batches, the incomplete ones last.

        Each rank gets one contiguous part of every batch, all parts of equal length.

        Args:
            order: Of the epoch, shuffled or not.
            facts: Of the samples, by their number.
            batch_size: Most samples of a batch.
            generator: Source of further chance; None for an evaluation.
        """

    def describe(self) -> dict[str, Any]:
        """Name what decides the batches: an interrupted epoch goes on only under the same."""
        return {"kind": type(self).__name__} | vars(self)


class FixedSize(Batching):
    """As many samples in every batch: `batch_size` of them."""

    def check(self, facts: SampleFacts, batch_size: int, *, world_size: int) -> None:
        """See `Batching.check`."""
        if batch_size < 1 or batch_size % world_size:
            raise ValueError(
                f"batch_size is {batch_size} and counts all {world_size} processes together: it "
                "must be a positive multiple of their number"
            )

    def num_full_batches(self, facts: SampleFacts, batch_size: int) -> int:
        """See `Batching.num_full_batches`."""
        return len(facts) // batch_size

    def batches(
        self, order: Order, facts: SampleFacts, batch_size: int, *, generator: Generator | None
    ) -> list[Batch]:
        """See `Batching.batches`."""
        return _cut(order, batch_size)


class SimilarLength(FixedSize):
    """Samples whose reports are about equally long, so that little of the token batch is padding.

    The order is cut into windows, each window is sorted by length and cut into batches, and the
    batches of a window are shuffled. Not for contrastive training without thought: the other
    samples of a batch are the negatives, and here they resemble each other in length (long reports
    are those with many findings), which makes the task another one. It sees the length of the whole
    report: with a sampler that draws sentences it gains little.

    Args:
        window: Batches whose samples are sorted together; more save more padding and mix less.
    """

    def __init__(self, window: int = 16) -> None:
        if window < 1:
            raise ValueError(f"window is {window}, expected at least 1 batch")
        self.window = window

    def batches(
        self, order: Order, facts: SampleFacts, batch_size: int, *, generator: Generator | None
    ) -> list[Batch]:
        """See `Batching.batches`."""
        # The incomplete batch is set apart first: it is left out in training, and would otherwise
        # always hold the longest texts.
        whole = len(order) - len(order) % batch_size
        batches: list[ndarray] = []
        for part in _cut(order[:whole], batch_size * self.window):
            ranked = part[np.argsort(facts.text_length[part], kind="stable")]
            cut = _cut(ranked, batch_size)
            places = range(len(cut)) if generator is None else generator.permutation(len(cut))
            batches += [cut[int(place)] for place in places]
        return batches + _cut(order[whole:], batch_size)


def _cut(order: Order, size: int) -> list[Batch]:
    return [order[start : start + size] for start in range(0, len(order), size)]
