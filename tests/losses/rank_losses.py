"""Losses and gradients of one rank, for tests that compare them with one process."""

from typing import Any

import torch
from torch import Tensor, nn

from medvlp.types import TwoTowerOutput


def loss_and_gradients(
    rank: int, loss: nn.Module, parts: list[dict[str, Tensor]], batches: list[Any]
) -> dict[str, Tensor]:
    """Feed part `rank` to the loss.

    Args:
        rank: Picks the part and the batch.
        loss: A module of `medvlp.losses`.
        parts: image, text, logit_scale and perhaps logit_bias and second_logit_scale of every
            rank.
        batches: What the loss reads of the batch of every rank.

    Returns:
        The loss and its parts, and the gradient of each tensor before any averaging over ranks.
    """
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in parts[rank].items()}
    output = TwoTowerOutput(
        image_embedding=leaves["image"],
        text_embedding=leaves["text"],
        logit_scale=leaves["logit_scale"],
    )
    if "logit_bias" in leaves:
        output["logit_bias"] = leaves["logit_bias"]
    if "second_logit_scale" in leaves:
        output["second_logit_scale"] = leaves["second_logit_scale"]
    losses = loss(output, batches[rank])
    losses["total"].backward()
    gradients = {name: leaf.grad for name, leaf in leaves.items() if leaf.grad is not None}
    parts_of = {name: value.detach() for name, value in losses.items() if name != "total"}
    return {"loss": losses["total"].detach(), **parts_of, **gradients}


def many_losses(
    rank: int, jobs: list[tuple[nn.Module, list[dict[str, Tensor]], list[Any]]]
) -> list[dict[str, Tensor]]:
    """Run `loss_and_gradients` for several losses in one process group."""
    return [loss_and_gradients(rank, *job) for job in jobs]


def unit_rows(count: int, width: int, seed: int) -> Tensor:
    """Draw L2-normalised rows."""
    generator = torch.Generator().manual_seed(seed)
    return nn.functional.normalize(torch.randn(count, width, generator=generator), dim=-1)
