"""Volume to volume retrieval as an evaluation."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from medvlp.evaluation.prompt_evaluation import scored_token
from medvlp.evaluation.protocol import Evaluation
from medvlp.evaluation.results import Macro, Results
from medvlp.evaluation.score_table import check_rows, distinct_rows
from medvlp.evaluation.statistics import bootstrap_facts, figure, patient_weights
from medvlp.evaluation.volume_retrieval import cumulative, findings_overlap
from medvlp.types import Tokens, VolumeBatch


class VolumeRetrieval(Evaluation):
    """Find volumes with the findings of a volume; an `Evaluation`.

    "clean" is the right figure: a volume does not find itself. "published" lets it, and
    "upstream_cumulative" also averages each cutoff with those before it, as HSENet's code prints.

    Args:
        label_names: Columns of `batch["labels"]`; volumes with an unknown label take no part.
        token: Which embedding of a study counts, where the tower gives several.
        cutoffs: How many of the found count.
        num_resamples: Bootstrap resamples of patients.
        seed: Of the bootstrap.
    """

    def __init__(
        self,
        label_names: Sequence[str],
        *,
        token: int = 0,
        cutoffs: Sequence[int] = (1, 5, 10, 50),
        num_resamples: int = 1000,
        seed: int = 0,
    ) -> None:
        self.label_names, self.token, self.cutoffs = list(label_names), token, tuple(cutoffs)
        self.num_resamples, self.seed = num_resamples, seed
        self._rows: list[dict[str, Any]] = []

    @property
    def class_names(self) -> list[str]:
        """Name the scores of a row: there are none."""
        return []

    def prepare(
        self,
        embed_text: Callable[[Tokens], Tensor],
        logit_scale: Float[Tensor, "1"],
        device: torch.device,
    ) -> None:
        """Do nothing: there are no texts."""

    def update(self, image_embedding: Float[Tensor, "b *p e"], batch: VolumeBatch) -> None:
        """Keep embeddings and labels.

        Raises:
            ValueError: If the batch has not the labels that are named.
        """
        width = batch["labels"].shape[1] if "labels" in batch else 0
        if "labels" not in batch or width != len(self.label_names):
            raise ValueError(
                f"the batch has {width} labels, this evaluation names {len(self.label_names)}; "
                "give label_names as the data set has them"
            )
        images = scored_token(image_embedding, self.token).float().cpu().numpy()
        for row, sample in enumerate(batch["sample_id"]):
            self._rows.append(
                {
                    "sample_id": sample,
                    "patient_id": batch["patient_id"][row],
                    "recipe_hash": batch["recipe_hash"],
                    "image": images[row],
                    "labels": batch["labels"][row].tolist(),
                    "scores": [],
                }
            )

    def rows(self) -> list[dict[str, Any]]:
        """Return one row per sample with its embedding."""
        return list(self._rows)

    def reset(self) -> None:
        """Forget all volumes."""
        self._rows = []

    def compute(self, rows: list[dict[str, Any]]) -> Results:
        """Compute all figures.

        Raises:
            ValueError: If too few volumes have a finding.
        """
        unique = distinct_rows(rows)
        kept = [row for row in unique if min(row["labels"]) >= 0]
        if not kept:
            raise ValueError(f"none of {len(unique)} volumes has all its labels known")
        check_rows(kept)
        patients = [row["patient_id"] for row in kept]
        resampled = patient_weights(patients, self.num_resamples, self.seed)
        unknown = len(unique) - len(kept)
        return Results(
            protocol="retrieval_of_volumes",
            num_samples=len(kept),
            num_patients=len(set(patients)),
            prompt_hash="",
            recipe_hash=kept[0]["recipe_hash"],
            threshold_rule="",
            bootstrap=bootstrap_facts(self.num_resamples, self.seed),
            findings=[],
            macros=self._macros(kept, np.vstack([np.ones(len(kept)), resampled])),
            worst_finding="",
            subgroups=[],
            skipped={},
            duplicates_dropped=len(rows) - len(unique),
            score_rule="cosine",
            left_out={"with an unknown label": unknown} if unknown else {},
        )

    def _macros(
        self, rows: Sequence[dict[str, Any]], weights: Float[np.ndarray, "r n"]
    ) -> list[Macro]:
        embeddings = np.stack([row["image"] for row in rows]).astype(np.float64)
        labels = np.array([row["labels"] for row in rows]) == 1
        total = weights.sum(axis=1, keepdims=True)
        macros = []
        for name, exclude in (("clean", True), ("published", False)):
            overlap = findings_overlap(embeddings, labels, self.cutoffs, exclude_self=exclude)
            macros.append(self._macro(name, weights @ overlap / total))
            if not exclude:
                running = np.apply_along_axis(cumulative, 1, weights @ overlap / total)
                macros.append(self._macro("upstream_cumulative", running))
        return macros

    def _macro(self, name: str, values: Float[np.ndarray, "r c"]) -> Macro:
        figures = {f"top_{k}": figure(values[:, c]) for c, k in enumerate(self.cutoffs)}

        return Macro(name, [], figures)
