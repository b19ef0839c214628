"""Retrieval of volumes by volumes: how alike are the findings of what is found?"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

QUERIES_PER_CHUNK = 1024


def findings_overlap(
    embeddings: Float[ndarray, "n e"],
    labels: Bool[ndarray, "n k"],
    cutoffs: Sequence[int],
    *,
    exclude_self: bool = True,
) -> Float[ndarray, "n c"]:
    """Average, for every query, how alike its findings are to those of the first found.

    All volumes ask; those with a finding are asked. Two sets of findings a and b are alike by
    |a and b| / (|a and b| + |a xor b|).

    Args:
        embeddings: Of unit length.
        labels: Which findings each volume has.
        cutoffs: How many of the found count.
        exclude_self: A volume does not find itself. The published code lets it.

    Raises:
        ValueError: If fewer volumes than the largest cutoff can be found.

    Reference: CT-CLIP's retrieval, as in HSENet (arXiv 2506.09634), published repository.
    """
    pool = np.flatnonzero(labels.any(axis=1))
    _require_enough(len(pool) - int(exclude_self), max(cutoffs))
    ours = labels.astype(np.float64)
    scores = []
    for start in range(0, len(labels), QUERIES_PER_CHUNK):
        rows = np.arange(start, min(start + QUERIES_PER_CHUNK, len(labels)))
        similarity = embeddings[rows] @ embeddings[pool].T
        if exclude_self:
            similarity[rows[:, None] == pool[None, :]] = -np.inf
        found = pool[np.argsort(-similarity, axis=1, kind="stable")[:, : max(cutoffs)]]
        both = np.einsum("qk,qfk->qf", ours[rows], ours[found])
        either = ours[rows].sum(axis=1)[:, None] + ours[found].sum(axis=2) - both
        alike = both / either
        scores.append(np.stack([alike[:, :k].mean(axis=1) for k in cutoffs], axis=1))
    return np.concatenate(scores)


def _require_enough(available: int, cutoff: int) -> None:
    if available < cutoff:
        raise ValueError(
            f"{available} volumes with a finding can be found, the largest cutoff is {cutoff}; "
            "evaluate more volumes, or set smaller cutoffs"
        )


def cumulative(clean: Float[ndarray, " c"]) -> Float[ndarray, " c"]:
    """Return what the published code prints: at each cutoff the mean of all figures so far.

    It never empties its list of queries between cutoffs.

    >>> cumulative(np.array([0.8, 0.2])).tolist()
    [0.8, 0.5]
    """
    return np.cumsum(clean) / np.arange(1, len(clean) + 1)
