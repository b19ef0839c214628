"""Agreement of labels read from reports with the truth: F1, precision, recall, rare findings."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from medvlp.evaluation.results import Macro, slug
from medvlp.evaluation.statistics import defined_mean, figure


def label_macros(
    name: str,
    found: Int[ndarray, "n k"],
    truth: Int[ndarray, "n k"],
    weights: Float[ndarray, "r n"],
    label_names: Sequence[str],
    *,
    rare: float,
) -> tuple[list[Macro], list[str]]:
    """Compute F1 of every label, their mean, the micro average, and the recall of rare ones.

    Args:
        name: Of the truth: "labels".
        found: 1 if the generated report says so.
        truth: 1 present, 0 absent, -1 unknown.
        weights: One row per resample.
        label_names: Of the columns.
        rare: Labels with at most this prevalence are rare.

    Returns:
        One row of means and one of the F1 of each label; notes.
    """
    occurs, is_rare = (truth == 1).any(axis=0), _rare(truth, rare)
    notes = []
    if not occurs.all():
        notes.append(f"{name}: never present, so without F1: {_joined(label_names, ~occurs)}")
    if not occurs.any():
        return [], notes
    rare_names = _joined(label_names, is_rare) or "none"
    notes.append(f"{name}: rare findings (prevalence at most {rare:g}): {rare_names}")
    shown = [label_names[k] for k in np.flatnonzero(occurs).tolist()]
    f1 = _f1(*_counts(found, truth, weights))[:, occurs]
    each = {slug(label): figure(values) for label, values in zip(shown, f1.T, strict=True)}
    scores = label_scores(found, truth, weights, rare=rare)
    means = {key: figure(values) for key, values in scores.items()}
    return [Macro(name, shown, means), Macro(f"{name}_f1", shown, each)], notes


def label_scores(
    found: Int[ndarray, "n k"],
    truth: Int[ndarray, "n k"],
    weights: Float[ndarray, "r n"],
    *,
    rare: float = 0.1,
) -> dict[str, Float[ndarray, " r"]]:
    """Compute figures over all labels for every row of weights; NaN where one is undefined."""
    occurs, is_rare = (truth == 1).any(axis=0), _rare(truth, rare)
    tp, fp, fn = _counts(found, truth, weights)
    f1 = _f1(tp, fp, fn)[:, occurs]
    totals = [part.sum(axis=1) for part in (tp, fp, fn)]
    return {
        "f1_macro": defined_mean([*f1.T]) if occurs.any() else np.full(len(weights), np.nan),
        "f1_micro": _f1(*totals),
        "precision_micro": _ratio(totals[0], totals[0] + totals[1]),
        "recall_micro": _ratio(totals[0], totals[0] + totals[2]),
        "rare_recall": _ratio(tp[:, is_rare].sum(axis=1), (tp + fn)[:, is_rare].sum(axis=1)),
    }


def _counts(
    found: Int[ndarray, "n k"], truth: Int[ndarray, "n k"], weights: Float[ndarray, "r n"]
) -> tuple[Float[ndarray, "r k"], Float[ndarray, "r k"], Float[ndarray, "r k"]]:
    """Count true and false positives, and false negatives, of known labels."""
    said, true = (found == 1) & (truth >= 0), truth == 1
    return weights @ (said & true), weights @ (said & ~true), weights @ (~said & true)


def _rare(truth: Int[ndarray, "n k"], rare: float) -> Bool[ndarray, " k"]:
    positive, known = (truth == 1).sum(axis=0), (truth >= 0).sum(axis=0)
    return (positive > 0) & (positive / np.maximum(known, 1) <= rare)


def _f1(
    tp: Float[ndarray, "..."], fp: Float[ndarray, "..."], fn: Float[ndarray, "..."]
) -> Float[ndarray, "..."]:
    return _ratio(2 * tp, 2 * tp + fp + fn)


def _joined(names: Sequence[str], chosen: Bool[ndarray, " k"]) -> str:
    return ", ".join(name for name, there in zip(names, chosen, strict=True) if there)


def _ratio(part: Float[ndarray, "..."], whole: Float[ndarray, "..."]) -> Float[ndarray, "..."]:
    return np.divide(part, whole, out=np.full(np.shape(part), np.nan), where=whole > 0)
