"""Contrastive losses of one text per study, over all ranks."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from medvlp.distributed.exchange import Exchange, exchange_blocks
from medvlp.distributed.gather import GatherGradient, gather
from medvlp.distributed.world import rank, world_size
from medvlp.losses.functional import (
    clip_loss,
    cross_entropy_sum,
    pair_logits,
    sigmoid_loss_sum,
)
from medvlp.types import TwoTowerOutput, VolumeBatch


def check_global_batch(loss: nn.Module, num_studies: int) -> None:
    """Refuse to train on a single study, of which there is nothing to contrast.

    Args:
        loss: Asked for its mode: evaluation may look at one study.
        num_studies: Of the global batch.

    Raises:
        ValueError: If training and there is one study.
    """
    if loss.training and num_studies < 2:
        raise ValueError(
            f"the global batch holds {num_studies} study; a contrastive loss needs at least two "
            "studies to compare; raise data.batch_size"
        )


def check_one_text_per_study(output: TwoTowerOutput, batch: VolumeBatch) -> None:
    """Refuse batches in which text k is not the text of study k.

    Where `text_study` lies on a device only its length is looked at: reading it would stall.

    Raises:
        ValueError: If the numbers differ or the order does.
    """
    num_studies, num_texts = len(output["image_embedding"]), len(output["text_embedding"])
    owners = batch.get("text_study")
    in_order = owners is None or not owners.is_cpu or owners.tolist() == list(range(num_texts))
    if num_studies != num_texts or not in_order:
        raise ValueError(
            f"{num_texts} texts for {num_studies} studies (text_study: {owners}); this loss takes "
            "one text per study in the order of the studies; use StatementClipLoss, or a text "
            "sampler that gives one text"
        )


class ClipLoss(nn.Module):
    """Symmetric cross entropy of the image-text similarities over the global batch.

    With `gather_with_grad` the gradient, averaged over data-parallel ranks, is that of one process
    with the global batch. Without it (the published default of HLIP) features of other ranks are
    constants, and the averaged gradient of the features is 1 / world_size of it.

    Args:
        local_loss: Each rank scores only its own rows against all columns: memory linear in the
            local batch.
        gather_with_grad: Let gradients flow to the ranks that own the gathered features.
    """

    def __init__(self, *, local_loss: bool = False, gather_with_grad: bool = False) -> None:
        super().__init__()
        self.local_loss = local_loss
        self.gradient: GatherGradient = gather_gradient(local_loss, gather_with_grad)

    def forward(self, output: TwoTowerOutput, batch: VolumeBatch) -> dict[str, Tensor]:
        """Return the loss under "total".

        Raises:
            ValueError: Unless there is one text per study and, in training, two studies.
        """
        check_one_text_per_study(output, batch)
        image, text = output["image_embedding"], output["text_embedding"]
        check_global_batch(self, len(image) * world_size())
        return {"total": self.of_pairs(image, text, output["logit_scale"])}

    def of_pairs(
        self,
        image: Float[Tensor, "b e"],
        text: Float[Tensor, "b e"],
        scale: Float[Tensor, "1"],
    ) -> Float[Tensor, ""]:
        """Return the loss of embeddings that pair row by row on every rank."""
        if world_size() == 1:
            return clip_loss(image, text, scale)
        all_image, all_text = gather(image, self.gradient), gather(text, self.gradient)
        if not self.local_loss:
            return clip_loss(all_image, all_text, scale)
        labels = torch.arange(len(image), device=image.device) + rank() * len(image)
        total = cross_entropy_sum(pair_logits(image, all_text, scale), labels)
        total = total + cross_entropy_sum(pair_logits(text, all_image, scale), labels)
        return total / (2 * len(image))


class SigLipLoss(nn.Module):
    """Sigmoid loss of every image-text pair of the global batch, divided by the local batch.

    Averaged over data-parallel ranks it is the loss of one process with the global batch.

    Args:
        exchange: How the texts of other ranks come; the result is the same.
    """

    def __init__(self, *, exchange: Exchange = "bidir") -> None:
        super().__init__()
        self.exchange: Exchange = exchange

    def forward(self, output: TwoTowerOutput, batch: VolumeBatch) -> dict[str, Tensor]:
        """Return the loss under "total".

        Raises:
            ValueError: Unless the model has a bias, there is one text per study and, in training,
                two studies.
        """
        check_one_text_per_study(output, batch)
        if "logit_bias" not in output:
            raise ValueError(
                "the sigmoid loss needs a logit bias and the model has none; "
                "set model.logit_bias_init=-10 and model.logit_scale_init=2.302585"
            )
        image, scale, bias = output["image_embedding"], output["logit_scale"], output["logit_bias"]
        check_global_batch(self, len(image) * world_size())
        total = image.new_zeros((), dtype=torch.promote_types(image.dtype, torch.float32))
        for text, is_own in exchange_blocks(output["text_embedding"], self.exchange):
            logits = pair_logits(image, text, scale, bias)
            total = total + sigmoid_loss_sum(logits, diagonal=is_own)
        return {"total": total / len(image)}


def gather_gradient(local_loss: bool, gather_with_grad: bool) -> GatherGradient:
    """Say which gathered rows carry gradient.

    A local loss without gradient through the gather treats even the own columns as constants: own
    features learn as rows only.
    """
    if gather_with_grad:
        return "all"
    return "none" if local_loss else "own"
