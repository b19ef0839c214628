"""Vectorised ranking metrics under many weightings at once, and the patient-level bootstrap.

A bootstrap resample of patients is a weight per sample: how often its patient was drawn. So a
metric over R resamples is one pass over sorted scores with weights (R, n), instead of R calls.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from medvlp.evaluation.results import Figure

LEVEL = 0.95


def patient_weights(
    patient_ids: Sequence[str], num_resamples: int, seed: int
) -> Float[ndarray, "r n"]:
    """Draw patients with replacement; a sample weighs as often as its patient was drawn.

    Returns:
        One row per resample. All samples of a patient have the same weight; without repeated
        patients a row sums to n.
    """
    _, patient = np.unique(np.asarray(patient_ids), return_inverse=True)
    num_patients = int(patient.max()) + 1
    rng = np.random.default_rng(seed)
    share = np.full(num_patients, 1.0 / num_patients)
    return rng.multinomial(num_patients, share, size=num_resamples)[:, patient].astype(np.float64)


def bootstrap_facts(num_resamples: int, seed: int) -> dict[str, Any]:
    """Say for `Results.bootstrap` how intervals are made."""
    return {"unit": "patient", "resamples": num_resamples, "level": LEVEL, "seed": seed}


def interval(values: Float[ndarray, " r"]) -> tuple[float, float]:
    """Take the percentile interval over the resamples in which the metric is defined.

    >>> interval(np.repeat([0.25, 0.5], 1000))
    (0.25, 0.5)
    """
    defined = values[~np.isnan(values)]
    if not defined.size:
        return float("nan"), float("nan")
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(defined, [tail, 1 - tail])
    return float(low), float(high)


def figure(values: Float[ndarray, " r"]) -> Figure:
    """Make a figure of a metric whose first row is the sample itself, the others resamples."""
    low, high = interval(values[1:])
    return Figure(float(values[0]), low, high)


def defined_mean(values: Sequence[Float[ndarray, " r"]]) -> Float[ndarray, " r"]:
    """Average over findings, sets or draws; one that a resample leaves undefined is left out there.

    >>> defined_mean([np.array([0.25, np.nan]), np.array([0.75, 0.5])]).tolist()
    [0.5, 0.5]
    """
    stacked = np.stack(values)
    defined = ~np.isnan(stacked)
    count = defined.sum(axis=0)
    total = np.where(defined, stacked, 0.0).sum(axis=0)
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)


def ranking_metrics(
    labels: Bool[ndarray, " n"], scores: Float[ndarray, " n"], weights: Float[ndarray, "r n"]
) -> tuple[Float[ndarray, " r"], Float[ndarray, " r"]]:
    """Compute weighted AUROC and average precision for every row of weights.

    Tied scores count half in the AUROC and enter the average precision together, as in
    scikit-learn. A row without positive or without negative weight gives NaN.

    Returns:
        AUROC and AP, each of length r.
    """
    order = np.argsort(-scores, kind="stable")
    last_of_tie = np.append(np.flatnonzero(np.diff(scores[order])), scores.size - 1)
    positive = np.where(labels[order], weights[:, order], 0.0)
    true_positive = np.cumsum(positive, axis=1)[:, last_of_tie]
    flagged = np.cumsum(weights[:, order], axis=1)[:, last_of_tie]
    false_positive = flagged - true_positive
    gained = np.diff(true_positive, axis=1, prepend=0.0)
    lost = np.diff(false_positive, axis=1, prepend=0.0)
    num_positive, num_negative = true_positive[:, -1], false_positive[:, -1]
    with np.errstate(divide="ignore", invalid="ignore"):
        # trapezes: negatives of a tie rank, on average, behind half of its positives
        area = (lost * (true_positive - gained / 2)).sum(axis=1)
        auroc = area / (num_positive * num_negative)
        precision = np.where(flagged > 0, true_positive / flagged, 0.0)
        ap = (gained * precision).sum(axis=1) / num_positive
    undefined = (num_positive == 0) | (num_negative == 0)
    return np.where(undefined, np.nan, auroc), np.where(undefined, np.nan, ap)


def skill(ap: Float[ndarray, " r"], prevalence: Float[ndarray, " r"]) -> Float[ndarray, " r"]:
    """Rescale AP so that a random score has 0 and a perfect one 1: (AP - p) / (1 - p).

    >>> float(skill(np.array([0.625]), np.array([0.25]))[0])
    0.5
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        return (ap - prevalence) / (1 - prevalence)


def confusion_metrics(
    labels: Bool[ndarray, " n"],
    decisions: Bool[ndarray, " n"],
    weights: Float[ndarray, "r n"],
) -> dict[str, Float[ndarray, " r"]]:
    """Compute metrics of yes/no decisions for every row of weights.

    Returns:
        accuracy, balanced_accuracy, f1_weighted (mean of the F1 of both classes, weighted by
        their size), recall and precision of the positive class; an empty denominator gives 0,
        as in scikit-learn with `zero_division=0`. A row that lacks a class gives NaN.
    """
    tp, fp = weights @ (labels & decisions), weights @ (~labels & decisions)
    fn, tn = weights @ (labels & ~decisions), weights @ (~labels & ~decisions)
    positive, negative, total = tp + fn, fp + tn, tp + fp + fn + tn

    def ratio(part: ndarray, whole: ndarray) -> ndarray:
        return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)

    f1_positive, f1_negative = ratio(2 * tp, 2 * tp + fp + fn), ratio(2 * tn, 2 * tn + fp + fn)
    values = {
        "accuracy": ratio(tp + tn, total),
        "balanced_accuracy": (ratio(tp, positive) + ratio(tn, negative)) / 2,
        "f1_weighted": ratio(positive * f1_positive + negative * f1_negative, total),
        "recall": ratio(tp, positive),
        "precision": ratio(tp, tp + fp),
    }
    undefined = (positive == 0) | (negative == 0)
    return {name: np.where(undefined, np.nan, value) for name, value in values.items()}


def choice_metrics(
    truth: Int[ndarray, " n"],
    choice: Int[ndarray, " n"],
    weights: Float[ndarray, "r n"],
    num_classes: int,
) -> dict[str, Float[ndarray, " r"]]:
    """Compute metrics of a choice among several classes for every row of weights.

    Returns:
        accuracy, balanced_accuracy (mean recall of the classes that occur) and f1_weighted (mean
        F1 weighted by the size of the classes), as in scikit-learn. A row in which fewer than two
        classes occur gives NaN.
    """
    classes = np.arange(num_classes)
    is_true, is_chosen = truth[:, None] == classes, choice[:, None] == classes
    size = weights @ is_true
    right = weights @ (is_true & is_chosen)
    both = size + weights @ is_chosen
    occurs = size > 0
    recall = np.divide(right, size, out=np.zeros_like(size), where=occurs)
    f1 = np.divide(2 * right, both, out=np.zeros_like(size), where=both > 0)
    count = occurs.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        values = {
            "accuracy": right.sum(axis=1) / size.sum(axis=1),
            "balanced_accuracy": recall.sum(axis=1) / count,
            "f1_weighted": (f1 * size).sum(axis=1) / size.sum(axis=1),
        }
    return {name: np.where(count < 2, np.nan, value) for name, value in values.items()}


def calibration_metrics(
    labels: Bool[ndarray, " n"],
    scores: Float[ndarray, " n"],
    weights: Float[ndarray, "r n"],
    num_bins: int = 10,
) -> tuple[Float[ndarray, " r"], Float[ndarray, " r"]]:
    """Compute the expected calibration error (equal-width bins) and the Brier score.

    Returns:
        ECE and Brier, each of length r.
    """
    membership = np.eye(num_bins)[score_bins(scores, num_bins)]
    gap = np.abs(weights @ (membership * (scores - labels)[:, None])).sum(axis=1)
    total = weights.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return gap / total, (weights @ (scores - labels) ** 2) / total


def score_bins(scores: Float[ndarray, " n"], num_bins: int) -> Int[ndarray, " n"]:
    """Number the equal-width bin of [0, 1] that each score falls into; 1 is in the last."""
    return np.clip((scores * num_bins).astype(np.int64), 0, num_bins - 1)


def closest_corner_threshold(labels: Bool[ndarray, " n"], scores: Float[ndarray, " n"]) -> float:
    """Find the threshold nearest to the perfect corner of the ROC, by HLIP's published rule.

    Among 100 values of linspace(0, 1, 100) the one that minimises
    sqrt((1 - TPR)^2 + FPR^2) for score > t; the last minimiser wins.
    """
    thresholds = np.linspace(0, 1, 100)
    above = scores[None, :] > thresholds[:, None]
    tpr, fpr = above[:, labels].mean(axis=1), above[:, ~labels].mean(axis=1)
    distance = np.sqrt((1 - tpr) ** 2 + fpr**2)
    return float(thresholds[np.flatnonzero(distance == distance.min())[-1]])
