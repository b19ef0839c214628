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
    said, true = (found == 1) & (truth >= 0), truth == 1
    occurs = true.any(axis=0)
    is_rare = occurs & (true.sum(axis=0) / np.maximum((truth >= 0).sum(axis=0), 1) <= rare)
    notes = []
    if not occurs.all():
        notes.append(f"{name}: never present, so without F1: {_joined(label_names, ~occurs)}")
    if not occurs.any():
        return [], notes
    rare_names = _joined(label_names, is_rare) or "none"
    notes.append(f"{name}: rare findings (prevalence at most {rare:g}): {rare_names}")
    tp, fp, fn = weights @ (said & true), weights @ (said & ~true), weights @ (~said & true)
    f1 = _ratio(2 * tp, 2 * tp + fp + fn)
    shown = {label_names[k]: f1[:, k] for k in np.flatnonzero(occurs).tolist()}
    figures = {"f1_macro": defined_mean(list(shown.values())), **_micro(tp, fp, fn)}
    figures["rare_recall"] = _ratio(tp[:, is_rare].sum(axis=1), (tp + fn)[:, is_rare].sum(axis=1))
    means = {key: figure(values) for key, values in figures.items()}
    each = {slug(label): figure(values) for label, values in shown.items()}
    return [Macro(name, list(shown), means), Macro(f"{name}_f1", list(shown), each)], notes


def _joined(names: Sequence[str], chosen: Bool[ndarray, " k"]) -> str:
    return ", ".join(name for name, there in zip(names, chosen, strict=True) if there)


def _micro(*counts: Float[ndarray, "r k"]) -> dict[str, Float[ndarray, " r"]]:
    """Compute figures over all labels from true and false positives and false negatives."""
    tp, fp, fn = (part.sum(axis=1) for part in counts)
    return {
        "f1_micro": _ratio(2 * tp, 2 * tp + fp + fn),
        "precision_micro": _ratio(tp, tp + fp),
        "recall_micro": _ratio(tp, tp + fn),
    }


def _ratio(part: Float[ndarray, "..."], whole: Float[ndarray, "..."]) -> Float[ndarray, "..."]:
    return np.divide(part, whole, out=np.full(np.shape(part), np.nan), where=whole > 0)
