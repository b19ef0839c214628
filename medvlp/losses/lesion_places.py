"""Contrastive losses of lesions and the descriptions of their places."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from medvlp.distributed.gather import gather
from medvlp.distributed.world import rank, world_size
from medvlp.losses.contrastive import check_global_batch, check_one_text_per_study
from medvlp.losses.functional import pair_logits
from medvlp.losses.row_losses import hardest_negatives
from medvlp.types import TwoTowerOutput, VolumeBatch


class PlaceClipLoss(nn.Module):
    """Average a loss of rows over both directions, lesions to texts and texts to lesions.

    Args:
        rows: Of `medvlp.losses.row_losses`.
        merge_texts: Equal texts of a batch are right for each other's lesions. Off, as published,
            text k is right for lesion k alone, though two words may share a description.
        across_ranks: Compare with the texts and lesions of all ranks; averaged over ranks, value
            and gradient are those of one process. Off, as published, each rank compares its own.

    Reference: HCL-AL (Gao et al., IEEE TMI 2025, doi 10.1109/TMI.2025.3599197).
    """

    def __init__(
        self, rows: nn.Module, *, merge_texts: bool = True, across_ranks: bool = False
    ) -> None:
        super().__init__()
        self.rows = rows
        self.merge_texts = merge_texts
        self.across_ranks = across_ranks

    def forward(self, output: TwoTowerOutput, batch: VolumeBatch) -> dict[str, Tensor]:
        """Return the loss under "total".

        Raises:
            ValueError: Unless there is one text per lesion and, in training, two lesions, and what
                is needed to tell equal texts.
        """
        check_one_text_per_study(output, batch)
        lesion, text = output["image_embedding"], output["text_embedding"]
        check_global_batch(self, len(lesion) * (world_size() if self.across_ranks else 1))
        keys, all_keys = self._keys(batch, lesion)
        positives = (keys[:, None] == all_keys).all(-1)
        all_lesions, all_texts = lesion, text
        if self.across_ranks:
            all_lesions, all_texts = gather(lesion, "all"), gather(text, "all")
        scale = output["logit_scale"]
        of_lesions = self.rows(pair_logits(lesion, all_texts, scale), positives)
        of_texts = self.rows(pair_logits(text, all_lesions, scale), positives)
        return {"total": (of_lesions + of_texts) / 2}

    def _keys(self, batch: VolumeBatch, lesion: Tensor) -> tuple[Tensor, Tensor]:
        """Return what is equal where texts are: of the rows, and of the columns."""
        if not self.merge_texts:
            own = torch.arange(len(lesion), device=lesion.device)[:, None]
            if not self.across_ranks:
                return own, own
            everyone = torch.arange(len(lesion) * world_size(), device=lesion.device)[:, None]
            return everyone[rank() * len(lesion) :][: len(lesion)], everyone
        if "text_caption" in batch:
            own = batch["text_caption"].to(lesion.device)[:, None]
            return own, gather(own, "none") if self.across_ranks else own
        if "tokens" not in batch or self.across_ranks:
            raise ValueError(
                "the batch does not say which texts are equal (text_caption, or its tokens where "
                "ranks are not compared); set loss.merge_texts=false, or choose data that does"
            )
        ids = batch["tokens"].input_ids
        return ids, ids


class HardNegativeLoss(nn.Module):
    """Cross entropy of each lesion's text against the hardest of its wrong ones.

    Args:
        semi_hard: Take the hardest below the right one, where there are enough of them.
        top_k: How many; None for one less than the batch of a rank, as published.
        label_smoothing: Share of the target that is spread over right and wrong texts.

    Reference: HCL-AL (Gao et al., IEEE TMI 2025, doi 10.1109/TMI.2025.3599197).
    """

    def __init__(
        self, *, semi_hard: bool = True, top_k: int | None = None, label_smoothing: float = 0.0
    ) -> None:
        super().__init__()
        self.semi_hard = semi_hard
        self.top_k = top_k
        self.label_smoothing = label_smoothing

    def forward(self, output: TwoTowerOutput, batch: VolumeBatch) -> dict[str, Tensor]:
        """Return the loss under "total".

        Raises:
            ValueError: If there are no negatives, or too few, or not one text per lesion.
        """
        check_one_text_per_study(output, batch)
        logits = self.logits(output)
        right = torch.zeros(len(logits), dtype=torch.int64, device=logits.device)
        return {"total": F.cross_entropy(logits, right, label_smoothing=self.label_smoothing)}

    def logits(self, output: TwoTowerOutput) -> Float[Tensor, "b n"]:
        """Return the logit of the right text, and those of the negatives that are kept.

        The published code puts the right one into column i of row i, which is the same loss, and
        impossible where fewer negatives are kept than there are other rows.

        Raises:
            ValueError: If there are no negatives, or too few.
        """
        if "negative_embedding" not in output:
            raise ValueError(
                "the model's output has no negatives: the batch lacks texts that are wrong; choose "
                "data with `negatives`, or another loss"
            )
        scale = output["logit_scale"].float().exp()
        lesion, text, wrong = (
            output[name].float()
            for name in ("image_embedding", "text_embedding", "negative_embedding")
        )
        positive = scale * (lesion * text).sum(-1)
        negatives = scale * torch.einsum("be,bme->bm", lesion, wrong)
        top_k = len(lesion) - 1 if self.top_k is None else self.top_k
        kept = hardest_negatives(positive, negatives, top_k, semi_hard=self.semi_hard)
        return torch.cat((positive[:, None], kept), dim=1)
