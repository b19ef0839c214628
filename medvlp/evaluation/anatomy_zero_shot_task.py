"""Zero-shot classification of findings, each looked for in its organ, as fVLM evaluates CT."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from medvlp.evaluation.anatomy_zero_shot import organ_numbers
from medvlp.evaluation.results import Results
from medvlp.evaluation.score_table import distinct_rows
from medvlp.evaluation.zero_shot import ZeroShotClassification
from medvlp.types import Tokens, VolumeBatch

ALL_ORGANS = "all organs"
"""A prompt set may look for a finding in the mean embedding of all organs that a study shows."""


class AnatomyZeroShot(ZeroShotClassification):
    """Score every finding by a pair of prompts against the embedding of its organ.

    `update` takes one embedding per organ, NaN where the study does not show it, as `embed_organs`
    gives them. Such a study has no score of the findings of that organ and takes no part in their
    figures; the results count them in their notes.

    Args:
        prompts: Name of a shipped prompt set, or path of a YAML file; its classes name organs,
            or `all organs` for the mean of those that a study shows.
        tokenizer: The one the text tower was trained with.
        label_names: Names of the columns of `batch["labels"]`, in their order.
        organs: Those of the model, in its order.
        template: Which of the set's templates.
        thresholds_from: See `ZeroShotClassification`.
        num_resamples: Bootstrap resamples of patients.
        seed: Of the bootstrap.
        compat: "published" gives the findings of an absent organ the probability 0, as fVLM's
            published figures do.

    Reference: fVLM (ICLR 2025, arXiv 2501.14548), published zero-shot evaluation.
    """

    def __init__(
        self,
        prompts: str,
        tokenizer: Callable[[list[str]], Tokens],
        *,
        label_names: Sequence[str],
        organs: Sequence[str],
        template: str = "organ",
        thresholds_from: str | None = None,
        num_resamples: int = 1000,
        seed: int = 0,
        compat: Literal["published"] | None = None,
    ) -> None:
        super().__init__(
            prompts,
            tokenizer,
            label_names=label_names,
            template=template,
            thresholds_from=thresholds_from,
            num_resamples=num_resamples,
            seed=seed,
        )
        self.organs, self.compat = list(organs), compat
        self.organ_of = {entry.name: entry.organ for entry in self.prompts.classes}
        wanted = [self.organ_of[name] for name in self.class_names]
        self._numbers = organ_numbers(wanted, [*organs, ALL_ORGANS])

    def cosines(
        self, image_embedding: Float[Tensor, "b *p e"], classifier: Float[Tensor, "m e"]
    ) -> Float[Tensor, "b m"]:
        """Compare each finding's prompts with the embedding of its organ; NaN where absent.

        Raises:
            ValueError: If there is not one embedding per organ.
        """
        if image_embedding.shape[1:-1] != (len(self.organs),):
            raise ValueError(
                f"the embeddings are {tuple(image_embedding.shape)}, this evaluation takes "
                f"(studies, {len(self.organs)} organs, width); use a model of "
                f"{', '.join(self.organs)}, or an evaluation of whole studies"
            )
        pairs = classifier.unflatten(0, (len(self._numbers), 2))
        return torch.einsum("bke,kpe->bkp", self._by_finding(image_embedding), pairs).flatten(1)

    def update(self, image_embedding: Float[Tensor, "b *p e"], batch: VolumeBatch) -> None:
        """Score a batch; see `PromptEvaluation.update`."""
        super().update(image_embedding, batch)
        absent = self._by_finding(image_embedding).isnan().any(dim=-1)
        self._batches[-1]["absent"] = absent
        if self.compat == "published":
            self._batches[-1]["scores"] = self._batches[-1]["scores"].masked_fill(absent, 0.0)

    def compute(self, rows: list[dict[str, Any]]) -> Results:
        """Compute every figure; the notes say how many studies lack which organ.

        Raises:
            ValueError: If no label is known, the rows are not sound, or no study shows an organ.
        """
        kept = distinct_rows(rows)
        if kept and all(all(row["absent"]) for row in kept):
            raise ValueError(
                f"none of {len(kept)} studies shows any of {', '.join(self.organs)}: their masks "
                "hold none of these labels; prepare the masks with the anatomies of the model"
            )
        results = super().compute(rows)
        return replace(results, notes=[*results.notes, *self._absence_notes(kept)])

    def _by_finding(self, image_embedding: Float[Tensor, "b o e"]) -> Float[Tensor, "b k e"]:
        embedding = image_embedding.detach().float()
        mean = F.normalize(embedding.nanmean(dim=1, keepdim=True), dim=-1)
        return torch.cat([embedding, mean], dim=1)[:, self._numbers]

    def _absence_notes(self, rows: Sequence[dict[str, Any]]) -> list[str]:
        findings: dict[str, list[str]] = {}
        for name in self.class_names:
            findings.setdefault(self.organ_of[name], []).append(name)
        missing = {organ: self.class_names.index(names[0]) for organ, names in findings.items()}
        counts = {organ: sum(row["absent"][k] for row in rows) for organ, k in missing.items()}
        counted = "probability 0" if self.compat == "published" else "not scored"
        return [
            f"{organ}: absent in {count} of {len(rows)} samples, which are {counted} for "
            f"{', '.join(findings[organ])}"
            for organ, count in counts.items()
            if count
        ]
