"""Agreement of labels read from reports with the truth: F1, precision, recall, rare findings."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int
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
    known = truth >= 0
    said, true = (found == 1) & known, truth == 1
    tp, fp, fn = weights @ (said & true), weights @ (said & ~true), weights @ (~said & true)
    occurs = true.any(axis=0)
    shown = np.flatnonzero(occurs).tolist()
    f1 = _ratio(2 * tp, 2 * tp + fp + fn)
    totals = [part.sum(axis=1) for part in (tp, fp, fn)]
    with np.errstate(invalid="ignore"):
        prevalence = true.sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    is_rare = occurs & (prevalence <= rare)
    figures = (
        {
            "f1_macro": figure(defined_mean([f1[:, k] for k in shown])),
            "f1_micro": figure(_ratio(2 * totals[0], 2 * totals[0] + totals[1] + totals[2])),
            "precision_micro": figure(_ratio(totals[0], totals[0] + totals[1])),
            "recall_micro": figure(_ratio(totals[0], totals[0] + totals[2])),
            "rare_recall": figure(
                _ratio(tp[:, is_rare].sum(axis=1), (tp + fn)[:, is_rare].sum(axis=1))
            ),
        }
        if shown
        else {}
    )
    names = [label_names[k] for k in shown]
    notes = []
    if absent := [label for label, there in zip(label_names, occurs, strict=True) if not there]:
        notes.append(f"{name}: never present, so without F1: {', '.join(absent)}")
    if not shown:
        return [], notes
    rare_names = [label_names[k] for k in np.flatnonzero(is_rare).tolist()]
    notes.append(
        f"{name}: rare findings (prevalence at most {rare:g}): {', '.join(rare_names) or 'none'}"
    )
    each = {slug(label_names[k]): figure(f1[:, k]) for k in shown}
    return [Macro(name, names, figures), Macro(f"{name}_f1", names, each)], notes


def _ratio(part: Float[ndarray, "..."], whole: Float[ndarray, "..."]) -> Float[ndarray, "..."]:
    return np.divide(part, whole, out=np.full(np.shape(part), np.nan), where=whole > 0)
