"""Generated reports against true ones: words, findings, and whether they are all the same."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from medvlp.data.statements import split_sentences, statement_id
from medvlp.evaluation.cider import cider_d
from medvlp.evaluation.generated_text import GeneratedTextEvaluation, means
from medvlp.evaluation.label_metrics import label_macros
from medvlp.evaluation.model_metrics import MODEL_METRICS, model_scores
from medvlp.evaluation.report_labels import ReportLabels
from medvlp.evaluation.results import Figure, Macro, slug
from medvlp.evaluation.row_evaluation import Rows
from medvlp.evaluation.statistics import figure
from medvlp.evaluation.text_metrics import (
    bleu_statistics,
    corpus_bleu,
    has_synonyms,
    meteor,
    ngram_precisions,
    rouge,
)
from medvlp.types import VolumeBatch

METRICS = ("bleu", "rouge", "meteor", "cider")
PUBLISHED = ("rouge1", "rougeL", "meteor", "bertscore_f1", "ratescore")


class ReportGeneration(GeneratedTextEvaluation):
    """Score generated reports; an `Evaluation` of generated texts.

    The row "text" has standard figures: corpus BLEU, ROUGE, METEOR, CIDEr-D. The row "published"
    has HSENet's: its "BLEU-n" is the precision of n-grams of order n, and a pair in which a text
    has no word is left out of all of its means. The rows "labels" compare the findings that the
    generated report affirms with the labels of the data set where it has them, "report_labels"
    with those that the true report affirms. The row "collapse" tells whether a model writes the
    same for all: the shares of distinct reports and sentences, of both texts.

    Args:
        label_names: Columns of `batch["labels"]`, in their order; those of `report_labels.yaml`.
        metrics: Which figures of words to compute, of bleu, rouge, meteor, cider; and of
            bertscore, ratescore, radgraph, green where their packages and models are there.
        label_terms: Rules that read labels from reports, see `ReportLabels`.
        rare: Labels of at most this prevalence are rare findings.
        num_resamples: Bootstrap resamples of patients.
        seed: Of the bootstrap.

    Reference: HSENet (arXiv 2506.09634), report generation.
    """

    protocol = "report_generation"

    def __init__(
        self,
        *,
        label_names: Sequence[str] = (),
        metrics: Sequence[str] = METRICS,
        label_terms: str | None = None,
        rare: float = 0.1,
        num_resamples: int = 1000,
        seed: int = 0,
    ) -> None:
        super().__init__(num_resamples=num_resamples, seed=seed)
        self.metrics = check_metrics(metrics)
        self.label_names, self.rare = list(label_names), rare
        self.labels = ReportLabels(label_names, terms=label_terms)

    @property
    def class_names(self) -> list[str]:
        """Name the scores of a row: 1 for each finding that the generated report affirms."""
        return list(self.label_names)

    def facts(self, generated: str, truth: str, batch: VolumeBatch, row: int) -> dict[str, Any]:
        """Read the findings of the generated report."""
        labels = batch["labels"][row].tolist() if "labels" in batch else None
        if labels is not None and self.label_names and len(labels) != len(self.label_names):
            raise ValueError(
                f"the batch has {len(labels)} labels, the evaluation names "
                f"{len(self.label_names)}; give label_names as the data set has them"
            )
        return {"labels": labels, "scores": self.labels(generated).astype(float).tolist()}

    def macros(self, rows: Rows, weights: Float[ndarray, "r n"]) -> tuple[list[Macro], list[str]]:
        """Return the rows "text", "published", labels and "collapse"."""
        generated, truth = ([row[key] for row in rows] for key in ("generated", "truth"))
        macros, notes = text_macros(generated, truth, weights, self.metrics)
        if self.label_names:
            found = np.array([row["scores"] for row in rows]).astype(np.int64)
            truths = {"report_labels": np.stack([self.labels(text) for text in truth])}
            if all(row["labels"] is not None for row in rows):
                truths = {"labels": np.array([row["labels"] for row in rows])} | truths
            for name, labels in truths.items():
                more, said = label_macros(
                    name, found, labels, weights, self.label_names, rare=self.rare
                )
                macros, notes = macros + more, notes + said
        return [*macros, collapse(generated, truth)], notes

    def prediction(self, row: Any) -> dict[str, Any]:
        """Add the findings that the generated report affirms."""
        found = dict(zip(self.label_names, row["scores"], strict=True))
        return super().prediction(row) | {name: int(score) for name, score in found.items()}


def text_macros(
    generated: Sequence[str],
    truth: Sequence[str],
    weights: Float[ndarray, "r n"],
    metrics: Sequence[str] = METRICS,
) -> tuple[list[Macro], list[str]]:
    """Compute the rows "text" and "published", and say what their figures lack."""
    scores, notes = _word_scores(generated, truth, metrics)
    found, said = model_scores([m for m in metrics if m in MODEL_METRICS], generated, truth)
    scores, notes = scores | found, notes + said
    standard: dict[str, Figure] = {}
    counted = np.ones(len(generated), dtype=bool)
    published = {name: scores[name] for name in PUBLISHED if name in scores}
    if "bleu" in metrics:
        statistics = bleu_statistics(generated, truth)
        standard = {
            f"bleu{order}": figure(corpus_bleu(statistics, weights, order=order))
            for order in range(1, 5)
        }
        precisions = ngram_precisions(statistics)
        counted = ~np.isnan(precisions).any(axis=1)
        published = {f"bleu{n + 1}_precision": precisions[:, n] for n in range(4)} | published
    rows = [Macro("text", [], standard | means(scores, weights))]
    if published and counted.any():
        kept = {name: value[counted] for name, value in published.items()}
        rows.append(Macro("published", [], means(kept, weights[:, counted])))
        if not counted.all():
            notes.append(f"published: {(~counted).sum()} pairs with an empty text are left out")
    return rows if rows[0].figures else [], notes


def _word_scores(
    generated: Sequence[str], truth: Sequence[str], metrics: Sequence[str]
) -> tuple[dict[str, Float[ndarray, " n"]], list[str]]:
    scores: dict[str, Float[ndarray, " n"]] = {}
    notes = []
    if "rouge" in metrics:
        scores |= rouge(generated, truth)
    if "meteor" in metrics:
        scores["meteor"] = meteor(generated, truth)
        if not has_synonyms():
            notes.append(
                "METEOR without synonyms: WordNet is not there; pip install 'medvlp[metrics]'"
            )
    if "cider" in metrics:
        scores["cider_d"] = cider_d(generated, truth)
    return scores, notes


def check_metrics(metrics: Sequence[str]) -> tuple[str, ...]:
    """Return the metrics if all are known.

    Raises:
        ValueError: If one is not.
    """
    known = (*METRICS, *MODEL_METRICS)
    if unknown := [name for name in metrics if name not in known]:
        raise ValueError(f"there is no text metric {unknown[0]!r}; choose of {', '.join(known)}")
    return tuple(metrics)


def collapse(generated: Sequence[str], truth: Sequence[str]) -> Macro:
    """Compare how varied generated reports are with how varied the true ones are.

    Returns:
        distinct_reports and distinct_sentences: shares of different ones among all; most_frequent:
        the share of the report that was written most often. The same of the truth as `true_*`.
        Without intervals: a resample repeats reports, which itself makes fewer of them distinct.
    """
    figures: dict[str, Figure] = {}
    for prefix, texts in (("", generated), ("true_", truth)):
        reports = Counter(slug(text) for text in texts)
        sentences = [statement_id(part) for text in texts for part in split_sentences(text)]
        shares = {
            "distinct_reports": len(reports) / len(texts),
            "most_frequent": max(reports.values()) / len(texts),
            "distinct_sentences": len(set(sentences)) / max(len(sentences), 1),
        }
        figures |= {prefix + name: Figure(share) for name, share in shares.items()}
    return Macro("collapse", [], figures)
