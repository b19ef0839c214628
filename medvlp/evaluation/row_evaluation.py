"""Evaluations that keep one row per sample and compute all of their figures from these."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from medvlp.evaluation.protocol import EmbedText, Evaluation
from medvlp.evaluation.results import Macro, Results
from medvlp.evaluation.score_table import check_rows, distinct_rows
from medvlp.evaluation.statistics import bootstrap_facts, patient_weights

Rows = Sequence[dict[str, Any]]


class RowEvaluation(Evaluation):
    """Gather rows, and give their figures intervals of a bootstrap over patients.

    Args:
        num_resamples: Bootstrap resamples of patients.
        seed: Of the bootstrap.

    Attributes:
        protocol: Name of the protocol in result files.
        score_rule: What is compared: "cosine", "text".
        prompt_hash: Of the texts, where there are any.
        uncounted: Why a sample does not count.
        advice: Of the error where none counts.
    """

    protocol: str
    score_rule: str
    uncounted: str
    advice: str
    prompt_hash: str = ""

    def __init__(self, *, num_resamples: int = 1000, seed: int = 0) -> None:
        self.num_resamples, self.seed = num_resamples, seed
        self._rows: list[dict[str, Any]] = []

    @abstractmethod
    def counts(self, row: Mapping[str, Any]) -> bool:
        """Tell whether a row takes part in the figures."""

    @abstractmethod
    def macros(self, rows: Rows, weights: Float[ndarray, "r n"]) -> tuple[list[Macro], list[str]]:
        """Return all figures of the rows that count, and notes."""

    def prepare(
        self, embed_text: EmbedText, logit_scale: Float[Tensor, "1"], device: torch.device
    ) -> None:
        """Do nothing: there are no prompts."""

    def figures(self, rows: Rows, kept: Rows) -> tuple[list[Macro], list[str]]:
        """Return all figures, and notes.

        Args:
            rows: All.
            kept: Those that count.
        """
        return self.macros(kept, self.weights(kept))

    def predictions(self, rows: Rows) -> list[dict[str, Any]]:
        """Return the rows of predictions.csv."""
        return []

    def rows(self) -> list[dict[str, Any]]:
        """Return one row per sample."""
        return list(self._rows)

    def reset(self) -> None:
        """Forget all samples."""
        self._rows = []

    def weights(self, rows: Rows) -> Float[ndarray, "r n"]:
        """Return ones for the rows themselves, then their weights in every resample."""
        patients = [row["patient_id"] for row in rows]
        resampled = patient_weights(patients, self.num_resamples, self.seed)
        return np.vstack([np.ones(len(rows)), resampled])

    def compute(self, rows: list[dict[str, Any]]) -> Results:
        """Compute all figures over the samples that count.

        Raises:
            ValueError: If none counts, or a score is not finite.
        """
        unique = distinct_rows(rows)
        kept = [row for row in unique if self.counts(row)]
        left_out = len(unique) - len(kept)
        if not kept:
            raise ValueError(
                f"none of {len(unique)} samples counts, all are {self.uncounted}; {self.advice}"
            )
        check_rows(kept)
        macros, notes = self.figures(unique, kept)
        return Results(
            protocol=self.protocol,
            num_samples=len(kept),
            num_patients=len({row["patient_id"] for row in kept}),
            prompt_hash=self.prompt_hash,
            recipe_hash=kept[0]["recipe_hash"],
            bootstrap=bootstrap_facts(self.num_resamples, self.seed),
            macros=macros,
            duplicates_dropped=len(rows) - len(unique),
            score_rule=self.score_rule,
            left_out={self.uncounted: left_out} if left_out else {},
            notes=notes,
            predictions=self.predictions(kept),
        )
