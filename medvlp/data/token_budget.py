"""Batches of ragged studies that fill memory evenly: as many scans, not as many studies."""

from collections import deque

import numpy as np
from jaxtyping import Int
from numpy import ndarray
from numpy.random import Generator

from medvlp.data.batching import Batch, Batching, Order, SampleFacts

_LOOKAHEAD = 64
"""How many rows that do not fit are passed over before a batch is closed."""


class TokenBudget(Batching):
    """At most so many image tokens in a batch, at most `batch_size` studies.

    A batch is made of equal shares. Samples are taken about in the order of the epoch, a row of one
    for each share at a time, the largest to the share that holds least; a row that would overfill
    a share waits for the next batch. So every share holds as many samples as the others, as
    contrastive losses over several ranks want it, and never more than its part of the budget.
    Ranks take whole shares: their number must divide `shares`, and the batches are the same for
    all numbers that do.

    A training epoch has as many batches as the budget would need if all were full, so that its
    length is known and every epoch's is the same; the few samples that are left over because
    batches are not quite full come in other epochs. An evaluation has all samples.

    Args:
        max_tokens: Of the global batch, over all ranks.
        tokens_per_scan: 1 lets the budget count scans.
        shares: Equal parts of a batch.
    """

    def __init__(self, max_tokens: int, *, tokens_per_scan: int = 1, shares: int = 1) -> None:
        if min(max_tokens, tokens_per_scan, shares) < 1:
            raise ValueError(
                f"max_tokens is {max_tokens}, tokens_per_scan {tokens_per_scan} and shares "
                f"{shares}; expected at least 1 of each"
            )
        self.max_tokens, self.tokens_per_scan, self.shares = max_tokens, tokens_per_scan, shares

    def check(self, facts: SampleFacts, batch_size: int, *, world_size: int) -> None:
        """Raise a ValueError if a sample exceeds a share, or ranks cannot take whole shares."""
        if self.shares % world_size:
            raise ValueError(
                f"shares is {self.shares} and there are {world_size} processes, which take whole "
                "shares each; set data.batching.shares to a multiple of their number"
            )
        if batch_size < self.shares:
            raise ValueError(
                f"batch_size is {batch_size}, but a batch has {self.shares} shares of at least one "
                "sample; raise data.batch_size or lower data.batching.shares"
            )
        largest = int(self._tokens(facts).max(initial=0))
        if largest > self._share:
            raise ValueError(
                f"a sample has {largest} tokens ({largest // self.tokens_per_scan} scans), a share "
                f"of the batch holds {self._share}; raise data.batching.max_tokens to at least "
                f"{largest * self.shares}, or lower max_scans of data.scans"
            )

    def num_full_batches(self, facts: SampleFacts, batch_size: int) -> int:
        """See `Batching.num_full_batches`; no packing can need fewer."""
        num_rows, left_over = divmod(len(facts), self.shares)
        tokens = np.sort(self._tokens(facts))[: len(facts) - left_over].sum()
        by_tokens = int(tokens) // (self._share * self.shares)
        full = max(by_tokens, num_rows // (batch_size // self.shares))
        return max(full, min(num_rows, 1))

    def batches(
        self, order: Order, facts: SampleFacts, batch_size: int, *, generator: Generator | None
    ) -> list[Batch]:
        """See `Batching.batches`; samples that do not fill a row are a batch of their own."""
        tokens = self._tokens(facts)
        whole = len(order) - len(order) % self.shares
        waiting = deque(self._rows(order[:whole], tokens))
        batches = []
        while waiting:
            batches.append(self._fill(waiting, tokens, batch_size // self.shares))
        return batches + ([order[whole:]] if whole < len(order) else [])

    @property
    def _share(self) -> int:
        return self.max_tokens // self.shares

    def _tokens(self, facts: SampleFacts) -> Int[ndarray, " s"]:
        return facts.num_scans * self.tokens_per_scan

    def _rows(self, order: Int[ndarray, " r"], tokens: Int[ndarray, " s"]) -> list[ndarray]:
        """Put samples of about equal size, near each other in the order, into a row."""
        rows: list[ndarray] = []
        window = _LOOKAHEAD * self.shares
        for start in range(0, len(order), window):
            part = order[start : start + window]
            places = np.argsort(tokens[part], kind="stable").reshape(-1, self.shares)
            rows += list(part[places[np.argsort(places.min(axis=1))]])
        return rows

    def _fill(self, waiting: deque[ndarray], tokens: Int[ndarray, " s"], most_rows: int) -> Batch:
        """Take rows for one batch; its shares lie one after another."""
        load = np.zeros(self.shares, dtype=np.int64)
        taken: list[ndarray] = []
        passed: list[ndarray] = []
        while waiting and len(taken) < most_rows and len(passed) < _LOOKAHEAD:
            row = waiting.popleft()
            dealt = np.empty_like(row)
            lightest = np.argsort(load, kind="stable")
            dealt[lightest] = row[np.argsort(-tokens[row], kind="stable")]
            heavier = load + tokens[dealt]
            if heavier.max() > self._share:
                passed.append(row)
            else:
                load = heavier
                taken.append(dealt)
        waiting.extendleft(reversed(passed))
        return np.stack(taken, axis=1).ravel()
