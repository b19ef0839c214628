"""What evaluations of generated texts share: rows of text and truth, figures with intervals."""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from medvlp.evaluation.protocol import Evaluation
from medvlp.evaluation.results import Figure, Macro, Results
from medvlp.evaluation.score_table import check_rows, distinct_rows
from medvlp.evaluation.statistics import bootstrap_facts, figure, patient_weights
from medvlp.types import Tokens, VolumeBatch

Rows = Sequence[dict[str, Any]]


class GeneratedTextEvaluation(Evaluation):
    """Compare one generated text per study with the true one.

    Args:
        num_resamples: Bootstrap resamples of patients.
        seed: Of the bootstrap.

    Attributes:
        protocol: Name of the protocol in result files.
    """

    protocol: str

    def __init__(self, *, num_resamples: int = 1000, seed: int = 0) -> None:
        self.num_resamples, self.seed = num_resamples, seed
        self._rows: list[dict[str, Any]] = []

    @abstractmethod
    def facts(self, generated: str, truth: str, batch: VolumeBatch, row: int) -> dict[str, Any]:
        """Return what a row of the evaluation holds besides ids and texts; "scores" among it."""

    @abstractmethod
    def macros(self, rows: Rows, weights: Float[ndarray, "r n"]) -> tuple[list[Macro], list[str]]:
        """Return all figures of rows that have a truth, and notes."""

    def prepare(
        self,
        embed_text: Callable[[Tokens], Tensor],
        logit_scale: Float[Tensor, "1"],
        device: torch.device,
    ) -> None:
        """Do nothing: there are no prompts."""

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

    def rows(self) -> list[dict[str, Any]]:
        """Return one row per sample with both texts."""
        return list(self._rows)

    def reset(self) -> None:
        """Forget all samples."""
        self._rows = []

    def compute(self, rows: list[dict[str, Any]]) -> Results:
        """Compute all figures over the samples that have a true text.

        Raises:
            ValueError: If none has.
        """
        unique = distinct_rows(rows)
        kept = [row for row in unique if row["truth"]]
        if not kept:
            raise ValueError(
                f"none of {len(unique)} samples has a true text: there is nothing to compare with; "
                "look at the texts or questions of the prepared data"
            )
        check_rows(kept)
        patients = [row["patient_id"] for row in kept]
        resampled = patient_weights(patients, self.num_resamples, self.seed)
        macros, notes = self.macros(kept, np.vstack([np.ones(len(kept)), resampled]))
        empty = sum(not row["generated"] for row in kept)
        if empty:
            notes.append(f"{empty} of {len(kept)} generated texts are empty; they score 0")
        without = len(unique) - len(kept)
        return Results(
            protocol=self.protocol,
            num_samples=len(kept),
            num_patients=len(set(patients)),
            prompt_hash="",
            recipe_hash=kept[0]["recipe_hash"],
            threshold_rule="",
            bootstrap=bootstrap_facts(self.num_resamples, self.seed),
            findings=[],
            macros=macros,
            worst_finding="",
            subgroups=[],
            skipped={},
            duplicates_dropped=len(rows) - len(unique),
            score_rule="text",
            left_out={"without a true text": without} if without else {},
            notes=notes,
            predictions=[self.prediction(row) for row in kept],
        )

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
