"""Figures of a choice among the classes of one labelled set, with their bootstrap."""

import zlib
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from medvlp.evaluation.statistics import patient_weights, ranking_metrics, skill

TOP = 5
_WEIGHTS_PER_CHUNK = 2_000_000  # of float64: what a resample of a large set takes is bounded


def top_k(
    scores: Float[ndarray, "n k"], truth: Int[ndarray, " n"], count: int
) -> Bool[ndarray, " n"]:
    """Tell whose true class is among the `count` best; of equal scores the first class is better.

    >>> top_k(np.array([[0.5, 0.5, 0.1]]), np.array([1]), 1).tolist()
    [False]
    """
    own = scores[np.arange(len(truth)), truth][:, None]
    first = np.arange(scores.shape[1]) < truth[:, None]
    return ((scores > own) | ((scores == own) & first)).sum(axis=1) < count


def set_metrics(
    scores: Float[ndarray, "n k"],
    truth: Int[ndarray, " n"],
    weights: Float[ndarray, "r n"],
    *,
    two_class: bool,
) -> dict[str, Float[ndarray, " r"]]:
    """Compute the figures for every row of weights; the choice is the first best class.

    Returns:
        acc, over all images alike; balanced_acc, mean recall of the classes that occur; of more
        than five classes top5_acc; with `two_class` auc_roc, ap and ap_skill of score 1 minus
        score 0 (NaN where a class is absent), f1_score, precision_score and recall_score of class
        1, 0 where nothing is divided, as in scikit-learn.
    """
    classes = np.arange(scores.shape[1])
    is_true, is_chosen = truth[:, None] == classes, scores.argmax(axis=1)[:, None] == classes
    size = weights @ is_true
    right = weights @ (is_true & is_chosen)
    total, occurs = size.sum(axis=1), size > 0
    recall = _ratio(right, size)
    values = {
        "acc": right.sum(axis=1) / total,
        "balanced_acc": recall.sum(axis=1) / occurs.sum(axis=1),
    }
    if len(classes) > TOP:
        values["top5_acc"] = weights @ top_k(scores, truth, TOP) / total
    if two_class:
        # the difference is taken in the scores' own precision, as published
        margin = (scores[:, 1] - scores[:, 0]).astype(np.float64)
        area, precision = ranking_metrics(truth == 1, margin, weights)
        chosen = (weights @ is_chosen)[:, 1]
        values |= {"auc_roc": area, "ap": precision}
        values["ap_skill"] = skill(precision, size[:, 1] / total)
        values["f1_score"] = _ratio(2 * right[:, 1], size[:, 1] + chosen)
        values["precision_score"] = _ratio(right[:, 1], chosen)
        values["recall_score"] = recall[:, 1]
    return values


def resampled_metrics(
    scores: Float[ndarray, "n k"],
    truth: Int[ndarray, " n"],
    patient_ids: Sequence[str],
    *,
    two_class: bool,
    num_resamples: int,
    seed: int,
) -> dict[str, Float[ndarray, " r"]]:
    """Compute `set_metrics` of the images themselves (first) and of resamples of patients."""
    parts = [
        set_metrics(scores, truth, weights, two_class=two_class)
        for weights in _weights(patient_ids, num_resamples, seed)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def set_seed(seed: int, name: str) -> int:
    """Give each set resamples of its own, so that sets of one size are not drawn alike."""
    return zlib.crc32(f"{seed}/{name}".encode())


def _weights(
    patient_ids: Sequence[str], num_resamples: int, seed: int
) -> Iterator[Float[ndarray, "r n"]]:
    yield np.ones((1, len(patient_ids)))
    step = max(1, _WEIGHTS_PER_CHUNK // len(patient_ids))
    for start in range(0, num_resamples, step):
        count = min(step, num_resamples - start)
        yield patient_weights(patient_ids, count, set_seed(seed, str(start)))


def _ratio(part: Float[ndarray, "..."], whole: Float[ndarray, "..."]) -> Float[ndarray, "..."]:
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
