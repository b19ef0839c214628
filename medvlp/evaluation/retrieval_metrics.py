"""Ranks of matching items and what is made of them, in chunks of the similarity matrix."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray
from torch import Tensor

TieRule = Literal["worst", "mean", "best"]

CUTOFFS = (1, 5, 10)
QUERIES_PER_CHUNK = 1024


def matching_ranks(
    queries: Float[Tensor, "n e"], items: Float[Tensor, "n e"], *, ties: TieRule = "worst"
) -> Float[Tensor, " n"]:
    """Rank, from 0, the item of each query's own row among all items by falling similarity.

    Args:
        queries: Embeddings; row i asks for item i.
        items: Embeddings to choose from.
        ties: Where equally similar items stand: "worst" before the matching one, so that a tower
            which maps everything to one point finds nothing; "best" behind it; "mean" between.

    >>> points = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    >>> matching_ranks(points, points).tolist()
    [0.0, 1.0, 1.0]
    """
    ranks = []
    for start in range(0, len(queries), QUERIES_PER_CHUNK):
        similarity = queries[start : start + QUERIES_PER_CHUNK] @ items.T
        own = similarity.diagonal(start)[:, None]
        ahead = (similarity > own).sum(dim=1).float()
        level = (similarity == own).sum(dim=1).float() - 1
        ranks.append(ahead + level * {"worst": 1.0, "mean": 0.5, "best": 0.0}[ties])
    return torch.cat(ranks)


def rank_metrics(
    ranks: Float[ndarray, " n"],
    weights: Float[ndarray, "r n"],
    cutoffs: Sequence[int] = CUTOFFS,
) -> dict[str, Float[ndarray, " r"]]:
    """Compute HLIP's retrieval figures for every row of weights, which are whole numbers.

    Args:
        ranks: From 0, of each query.
        weights: One row per resample.
        cutoffs: The k of R@k.

    Returns:
        mean_rank and median_rank, counted from 1 (the median is rounded down first, as
        published), and R@k, the share of queries whose match is among the first k.
    """
    total = weights.sum(axis=1)
    metrics = {
        "mean_rank": weights @ ranks / total + 1,
        "median_rank": np.floor(_weighted_median(ranks, weights)) + 1,
    }
    return metrics | {f"R@{k}": weights @ (ranks < k) / total for k in cutoffs}


def pools_of(num_samples: int, size: int, seed: int) -> list[Int[ndarray, " m"]]:
    """Divide samples at random into pools of equal size; what does not fill a pool is left out.

    >>> [len(pool) for pool in pools_of(7, 3, seed=0)]
    [3, 3]
    """
    order = np.random.default_rng(seed).permutation(num_samples)
    whole = num_samples - num_samples % size
    return [np.sort(order[start : start + size]) for start in range(0, whole, size)]


def first_of_each(keys: list[str]) -> Int[ndarray, " m"]:
    """Return the places at which a key stands for the first time, in their order.

    >>> first_of_each(["a", "b", "a"]).tolist()
    [0, 1]
    """
    return np.sort(np.unique(np.asarray(keys), return_index=True)[1])


def _weighted_median(
    values: Float[ndarray, " n"], weights: Float[ndarray, "r n"]
) -> Float[ndarray, " r"]:
    """Take the median of values that stand there as often as their weight says."""
    order = np.argsort(values, kind="stable")
    count = np.cumsum(weights[:, order], axis=1)
    total = count[:, -1]
    middle = [np.floor((total - 1) / 2), np.floor(total / 2)]
    places = [(count > place[:, None]).argmax(axis=1) for place in middle]
    return (values[order][places[0]] + values[order][places[1]]) / 2
