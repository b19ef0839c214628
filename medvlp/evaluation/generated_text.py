"""What evaluations of generated texts share: rows of text and truth, figures with intervals."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from medvlp.evaluation.results import Figure, Results
from medvlp.evaluation.row_evaluation import RowEvaluation, Rows
from medvlp.evaluation.statistics import figure
from medvlp.types import VolumeBatch


class GeneratedTextEvaluation(RowEvaluation):
    """Compare one generated text per study with the true one; see `RowEvaluation`."""

    score_rule = "text"
    uncounted = "without a true text"
    advice = "there is nothing to compare with; look at the texts or questions of the prepared data"

    @abstractmethod
    def facts(self, generated: str, truth: str, batch: VolumeBatch, row: int) -> dict[str, Any]:
        """Return what a row of the evaluation holds besides ids and texts; "scores" among it."""

    def update(self, generated: Sequence[str] | Tensor, batch: VolumeBatch) -> None:
        """Keep the generated text of every study beside the true one.

        Raises:
            ValueError: If embeddings came, the batch has no answers, or not one text for each.
        """
        if isinstance(generated, Tensor):
            raise ValueError(
                f"{type(self).__name__} takes generated texts and got embeddings; choose it with a "
                "system that generates text, such as system=vlm"
            )
        if "answer" not in batch:
            raise ValueError(
                "the batch has no answers to compare with; set data.texts to conversations"
            )
        if len(generated) != len(batch["sample_id"]):
            raise ValueError(f"{len(generated)} texts for {len(batch['sample_id'])} studies")
        for row, text in enumerate(generated):
            ids = {
                "sample_id": batch["sample_id"][row],
                "study_id": batch["study_id"][row],
                "patient_id": batch["patient_id"][row],
                "recipe_hash": batch["recipe_hash"],
                "generated": text.strip(),
                "truth": batch["answer"][row].strip(),
            }
            self._rows.append(ids | self.facts(ids["generated"], ids["truth"], batch, row))

    def counts(self, row: Mapping[str, Any]) -> bool:
        """Take the samples that have a true text."""
        return bool(row["truth"])

    def compute(self, rows: list[dict[str, Any]]) -> Results:
        """Compute all figures over the samples that have a true text.

        Raises:
            ValueError: If none has.
        """
        results = super().compute(rows)
        empty = sum(not row["pred"] for row in results.predictions)
        if empty:
            results.notes.append(
                f"{empty} of {results.num_samples} generated texts are empty; they score 0"
            )
        return results

    def predictions(self, rows: Rows) -> list[dict[str, Any]]:
        """Return the rows of predictions.csv."""
        return [self.prediction(row) for row in rows]

    def prediction(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return a row of predictions.csv, under the names of the published tables."""
        return {
            "sample_id": row["sample_id"],
            "patient_id": row["patient_id"],
            "Ground Truth": row["truth"],
            "pred": row["generated"],
        }


def means(
    values: Mapping[str, Float[ndarray, " n"]], weights: Float[ndarray, "r n"]
) -> dict[str, Figure]:
    """Average over the samples, for each metric; all weights 0 make a resample undefined."""
    total = weights.sum(axis=1)
    divisor = np.where(total > 0, total, np.nan)
    return {name: figure(weights @ value / divisor) for name, value in values.items()}


def count(number: int) -> Figure:
    """Make a figure of a number that has no interval."""
    return Figure(float(number), float(number), float(number))
