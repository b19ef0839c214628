"""Figures of retrieval, of generated texts and of places that a `predictions.csv` is enough for."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from medvlp.data.ct_rate import LABEL_NAMES
from medvlp.data.lesion_table import names_of
from medvlp.evaluation.label_metrics import label_scores
from medvlp.evaluation.report_labels import ReportLabels
from medvlp.evaluation.results import slug
from medvlp.evaluation.retrieval_metrics import rank_metrics
from medvlp.evaluation.statistics import defined_mean
from medvlp.evaluation.text_metrics import bleu_statistics, corpus_bleu, rouge

CUTOFFS = (1, 5, 10, 50, 100)
GENERATED, TRUTH = "pred", "Ground Truth"
TRUE_PLACES = "GT"
_RANK = "rank "

Rows = Sequence[dict[str, str]]
Samples = dict[str, Float[ndarray, " r"]]


def comparable(columns: Sequence[str]) -> bool:
    """Tell whether a table with these columns has such figures."""
    return GENERATED in columns or any(name.startswith(_RANK) for name in columns)


def figures_of(rows: Rows, weights: Float[ndarray, "r n"]) -> dict[str, Samples]:
    """Compute the figures of every group: directions, words, labels, answers or places."""
    if TRUE_PLACES in rows[0]:
        return place_figures(rows, weights)
    return text_figures(rows, weights) if GENERATED in rows[0] else rank_figures(rows, weights)


def rank_figures(rows: Rows, weights: Float[ndarray, "r n"]) -> dict[str, Samples]:
    """Compute R@k and the mean and median rank of every direction."""
    cutoffs = [k for k in CUTOFFS if k < len(rows)]
    return {
        column.removeprefix(_RANK): rank_metrics(
            np.array([float(row[column]) for row in rows]) - 1, weights, cutoffs=cutoffs
        )
        for column in rows[0]
        if column.startswith(_RANK)
    }


def place_figures(rows: Rows, weights: Float[ndarray, "r n"]) -> dict[str, Samples]:
    """Compute how often the first name of a lesion's place is a true one, of all and by name.

    Raises:
        ValueError: If no lesion has a name: the coarse stage alone gives none.
    """
    if not any(row[GENERATED] for row in rows):
        raise ValueError(
            "a coarse stage names no places; compare evaluations of a fine stage or a cascade"
        )
    truth = [names_of(row[TRUE_PLACES]) for row in rows]
    right = np.array([float(row[GENERATED] in one) for row, one in zip(rows, truth, strict=True)])
    names = np.array([one[0] for one in truth])
    each = [_mean(right[names == name], weights[:, names == name]) for name in sorted(set(names))]
    return {
        "localisation": {"top1": _mean(right, weights), "top1_mean_over_names": defined_mean(each)}
    }


def text_figures(rows: Rows, weights: Float[ndarray, "r n"]) -> dict[str, Samples]:
    """Compare generated texts with the true ones.

    Returns:
        "text" with corpus BLEU-4 and ROUGE-L; of reports "report_labels", the findings of CT-RATE
        that the table has, against those that the true report affirms; of answers their accuracy,
        for all and by kind.
    """
    generated, truth = ([row[name] for row in rows] for name in (GENERATED, TRUTH))
    groups: dict[str, Samples] = {
        "text": {
            "bleu4": corpus_bleu(bleu_statistics(generated, truth), weights),
            "rougeL": _mean(rouge(generated, truth)["rougeL"], weights),
        }
    }
    if names := [name for name in LABEL_NAMES if name in rows[0]]:
        read = ReportLabels(names)
        found = np.array([[int(row[name]) for name in names] for row in rows])
        groups["report_labels"] = label_scores(found, np.stack([*map(read, truth)]), weights)
    if "right" in rows[0]:
        right = np.array([float(row["right"]) for row in rows])
        kinds = np.array([row["kind"] for row in rows])
        groups["all"] = {"accuracy": _mean(right, weights)}
        for kind in sorted(set(kinds.tolist()) - {""}):
            own = kinds == kind
            groups[f"kind_{slug(kind)}"] = {"accuracy": _mean(right[own], weights[:, own])}
    return groups


def _mean(values: Float[ndarray, " n"], weights: Float[ndarray, "r n"]) -> Float[ndarray, " r"]:
    total = weights.sum(axis=1)
    return weights @ values / np.where(total > 0, total, np.nan)
