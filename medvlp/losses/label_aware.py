"""Contrastive losses that know which other texts of the batch are true of a study as well."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from medvlp.distributed.gather import GatherGradient, gather_ragged, gather_sizes
from medvlp.distributed.world import rank, world_size
from medvlp.losses.contrastive import check_global_batch, gather_gradient
from medvlp.losses.functional import (
    cross_entropy_sum,
    match_statements,
    normalise_rows,
    pair_logits,
)
from medvlp.types import TwoTowerOutput, VolumeBatch


@dataclass(frozen=True)
class _Pairs:
    """Studies and texts of one rank, or of all.

    Attributes:
        owner: The study of each text, counted over the global batch.
        first_study: Where the studies begin in the global batch.
    """

    image: Float[Tensor, "b e"]
    text: Float[Tensor, "t e"]
    study_statements: Int[Tensor, "b m"]
    text_statements: Int[Tensor, "t u"]
    owner: Int[Tensor, " t"]
    first_study: int


class StatementClipLoss(nn.Module):
    """CLIP loss with soft targets: a text is positive for every study whose report says the same.

    Reports share most of their sentences ("No pleural effusion."), so with one text per study as
    the only positive, false negatives dominate. Here text t is positive for study j if all of its
    statements occur in the report of j; a text is always positive for its own study. The target of
    a row of the similarity matrix is uniform over its positives. A study may have any number of
    texts; without false negatives and with one text per study this is `ClipLoss`.

    Ranks may bring different numbers of studies, texts and statements: they tell each other the
    sizes first, which waits for the device once a step.

    Args:
        local_loss: Each rank scores only its own rows against all columns: memory linear in the
            local batch.
        gather_with_grad: Let gradients flow to the ranks that own the gathered features; then the
            result averaged over ranks, value and gradient, is that of one process.
    """

    def __init__(self, *, local_loss: bool = True, gather_with_grad: bool = True) -> None:
        super().__init__()
        self.local_loss = local_loss
        self.gradient: GatherGradient = gather_gradient(local_loss, gather_with_grad)

    def forward(self, output: TwoTowerOutput, batch: VolumeBatch) -> dict[str, Tensor]:
        """Return the loss under "total".

        Raises:
            ValueError: If the batch has no statements, or in training a single study.
        """
        own, everyone = _pairs(output, batch, self.gradient)
        check_global_batch(self, len(everyone.image))
        rows, weight = (own, world_size()) if self.local_loss else (everyone, 1)
        scale = output["logit_scale"]
        image_targets = normalise_rows(_positives(everyone, rows).T)
        image_loss = cross_entropy_sum(pair_logits(rows.image, everyone.text, scale), image_targets)
        text_targets = normalise_rows(_positives(rows, everyone))
        text_loss = cross_entropy_sum(pair_logits(rows.text, everyone.image, scale), text_targets)
        # divided by the global numbers, so that ranks with fewer texts weigh less
        total = image_loss / len(everyone.image) + text_loss / len(everyone.text)
        return {"total": total * (weight / 2)}


def _pairs(
    output: TwoTowerOutput, batch: VolumeBatch, gradient: GatherGradient
) -> tuple[_Pairs, _Pairs]:
    """Return the pairs of this rank and of all ranks."""
    if not ("text_study" in batch and "text_statements" in batch and "study_statements" in batch):
        raise ValueError(
            "the batch lacks text_study, text_statements or study_statements; use a text sampler "
            "that gives statements, or loss=clip"
        )
    image, text = output["image_embedding"], output["text_embedding"]
    studies, texts = batch["study_statements"], batch["text_statements"]
    sizes = gather_sizes([*studies.shape, *texts.shape], image.device)
    num_studies, num_texts = [s[0] for s in sizes], [s[2] for s in sizes]
    first_study = sum(num_studies[: rank()])
    owner = batch["text_study"] + first_study
    studies = F.pad(studies, (0, max(s[1] for s in sizes) - studies.shape[1]), value=-1)
    texts = F.pad(texts, (0, max(s[3] for s in sizes) - texts.shape[1]), value=-1)
    own = _Pairs(image, text, studies, texts, owner, first_study)
    everyone = _Pairs(
        gather_ragged(image, num_studies, gradient=gradient),
        gather_ragged(text, num_texts, gradient=gradient),
        gather_ragged(studies, num_studies, gradient="none"),
        gather_ragged(texts, num_texts, gradient="none"),
        gather_ragged(owner, num_texts, gradient="none"),
        first_study=0,
    )
    return own, everyone


def _positives(texts: _Pairs, studies: _Pairs) -> Bool[Tensor, "t b"]:
    """Say which of the studies each of the texts is true of, its own always."""
    index = torch.arange(len(studies.image), device=studies.owner.device) + studies.first_study
    is_own = texts.owner[:, None] == index
    return match_statements(texts.text_statements, studies.study_statements) | is_own
