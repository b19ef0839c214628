"""Generated answers against true ones: closed and open questions, by kind and by anatomy."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

from medvlp.evaluation.answer_metrics import (
    CATEGORIES,
    category,
    is_choice,
    published_class_accuracy,
    published_text_accuracy,
    same_answer,
    same_class,
)
from medvlp.evaluation.generated_text import GeneratedTextEvaluation, count, means
from medvlp.evaluation.report_generation import METRICS, check_metrics, text_macros
from medvlp.evaluation.results import Figure, Macro, slug
from medvlp.evaluation.row_evaluation import Rows
from medvlp.evaluation.statistics import defined_mean, figure
from medvlp.types import VolumeBatch

CLOSED, OPEN = "closed", "open"


class VisualQuestionAnswering(GeneratedTextEvaluation):
    """Score generated answers; an `Evaluation` of generated texts.

    A question is closed if its data set names all possible answers. An answer is right if it is
    the true one but for case, spaces and outer punctuation. There is a row for closed and for open
    questions, for each kind of them ("kind_location"), and of the kinds in `place_kinds` for each
    anatomy, their mean ("place_macro") and all of them ("place_micro"). "published" has the
    figures of HSENet's protocol, over the same kinds.

    Args:
        metrics: Figures of words, see `ReportGeneration`.
        place_kinds: Kinds of questions whose answers are places such as "Lung/Left lung".
        num_resamples: Bootstrap resamples of patients.
        seed: Of the bootstrap.

    Reference: HSENet (arXiv 2506.09634), visual question answering.
    """

    protocol = "visual_question_answering"

    def __init__(
        self,
        *,
        metrics: Sequence[str] = METRICS,
        place_kinds: Sequence[str] = ("location",),
        num_resamples: int = 1000,
        seed: int = 0,
    ) -> None:
        super().__init__(num_resamples=num_resamples, seed=seed)
        self.metrics, self.place_kinds = check_metrics(metrics), tuple(place_kinds)

    @property
    def class_names(self) -> list[str]:
        """Name the only score of a row."""
        return ["right"]

    def facts(self, generated: str, truth: str, batch: VolumeBatch, row: int) -> dict[str, Any]:
        """Keep the question, its kind and its possible answers."""
        target = batch["target"][row] if "target" in batch else None
        asked: Mapping[str, Any] = target or {}
        question = batch["question"][row] if "question" in batch else asked.get("question", "")
        return {
            "question": question,
            "kind": asked.get("kind") or "",
            "choices": list(asked.get("choices") or ()),
            "scores": [float(same_answer(generated, truth))],
        }

    def macros(self, rows: Rows, weights: Float[ndarray, "r n"]) -> tuple[list[Macro], list[str]]:
        """Return the rows "all", "closed", "open", of kinds, places and words."""
        generated, truth = ([row["generated"] for row in rows], [row["truth"] for row in rows])
        right = np.array([row["scores"][0] for row in rows])
        closed = np.array([bool(row["choices"]) for row in rows])
        groups = {"all": np.ones(len(rows), dtype=bool), CLOSED: closed, OPEN: ~closed}
        kinds = [row["kind"] for row in rows]
        for kind in sorted({kind for kind in kinds if kind}):
            groups[f"kind_{slug(kind)}"] = np.array([other == kind for other in kinds])
        macros = [_accuracy(name, right, own, weights) for name, own in groups.items() if own.any()]
        notes = []
        stray = sum(
            bool(row["choices"]) and not is_choice(row["generated"], row["choices"]) for row in rows
        )
        if stray:
            notes.append(
                f"{stray} of {closed.sum()} closed questions got none of their possible answers; "
                "they count as wrong"
            )
        placed = np.array([kind in self.place_kinds for kind in kinds])
        if placed.any():
            kept = [row for row, own in zip(rows, placed, strict=True) if own]
            macros += place_macros(kept, weights[:, placed])
        words, said = text_macros(generated, truth, weights, self.metrics)
        return [*macros, *words], [*notes, *said]

    def prediction(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Add the question, its kind and whether the answer is right."""
        asked = {"Question": row["question"], "kind": row["kind"]}
        return asked | super().prediction(row) | {"right": int(row["scores"][0])}


def place_macros(rows: Rows, weights: Float[ndarray, "r n"]) -> list[Macro]:
    """Compute accuracy of answers that are places, by anatomy, in the mean and over all."""
    pairs = [(row["generated"], row["truth"]) for row in rows]
    scores = {
        "class_accuracy": np.array([float(same_class(*pair)) for pair in pairs]),
        "accuracy": np.array([float(same_answer(*pair)) for pair in pairs]),
        "acc_class": np.array([float(published_class_accuracy(*pair)) for pair in pairs]),
        "acc_text": np.array([float(published_text_accuracy(*pair)) for pair in pairs]),
    }
    anatomies = np.array([category(truth) for _, truth in pairs])
    return category_macros("place", anatomies.tolist(), scores, weights)


def category_macros(
    name: str,
    anatomies: Sequence[str],
    scores: Mapping[str, Float[ndarray, " n"]],
    weights: Float[ndarray, "r n"],
) -> list[Macro]:
    """Average scores over all samples (micro), within each anatomy, and over these (macro)."""
    column = np.array(anatomies)
    occurring = [anatomy for anatomy in CATEGORIES if (column == anatomy).any()]
    total = weights.sum(axis=1)
    micro = means(scores, weights) | {"n": count(len(column))}
    macro: dict[str, Figure] = {}
    by_anatomy: dict[str, dict[str, Figure]] = {anatomy: {} for anatomy in occurring}
    for metric, values in scores.items():
        each = []
        for anatomy in occurring:
            own = weights[:, column == anatomy]
            number = own.sum(axis=1)
            sums = own @ values[column == anatomy]
            mean = np.divide(sums, number, out=np.full(total.shape, np.nan), where=number > 0)
            by_anatomy[anatomy][metric] = figure(mean)
            each.append(mean)
        macro[metric] = figure(defined_mean(each))
    rows = [Macro(f"{name}_micro", [], micro), Macro(f"{name}_macro", [], macro)]
    for anatomy, figures in by_anatomy.items():
        number = count(int((column == anatomy).sum()))
        rows.append(Macro(f"{name}_{slug(anatomy)}", [], figures | {"n": number}))
    return rows


def _accuracy(
    name: str,
    right: Float[ndarray, " n"],
    member: Bool[ndarray, " n"],
    weights: Float[ndarray, "r n"],
) -> Macro:
    figures = means({"accuracy": right[member]}, weights[:, member])
    return Macro(name, [], figures | {"n": count(int(member.sum()))})
