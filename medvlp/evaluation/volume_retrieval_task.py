"""Volume to volume retrieval as an evaluation."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from medvlp.evaluation.prompt_evaluation import scored_token
from medvlp.evaluation.results import Macro
from medvlp.evaluation.row_evaluation import RowEvaluation, Rows
from medvlp.evaluation.statistics import figure
from medvlp.evaluation.volume_retrieval import cumulative, findings_overlap
from medvlp.types import VolumeBatch


class VolumeRetrieval(RowEvaluation):
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

    protocol = "retrieval_of_volumes"
    score_rule = "cosine"
    uncounted = "with an unknown label"
    advice = "choose a data set with labels, or leave this evaluation out"

    def __init__(
        self,
        label_names: Sequence[str],
        *,
        token: int = 0,
        cutoffs: Sequence[int] = (1, 5, 10, 50),
        num_resamples: int = 1000,
        seed: int = 0,
    ) -> None:
        super().__init__(num_resamples=num_resamples, seed=seed)
        self.label_names, self.token, self.cutoffs = list(label_names), token, tuple(cutoffs)

    @property
    def class_names(self) -> list[str]:
        """Name the scores of a row: there are none."""
        return []

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

    def counts(self, row: Mapping[str, Any]) -> bool:
        """Take the volumes of which all labels are known."""
        return min(row["labels"]) >= 0

    def macros(
        self, rows: Rows, weights: Float[np.ndarray, "r n"]
    ) -> tuple[list[Macro], list[str]]:
        """Return the rows "clean", "published" and "upstream_cumulative"."""
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
        return macros, []

    def _macro(self, name: str, values: Float[np.ndarray, "r c"]) -> Macro:
        figures = {f"top_{k}": figure(values[:, c]) for c, k in enumerate(self.cutoffs)}
        return Macro(name, [], figures)
