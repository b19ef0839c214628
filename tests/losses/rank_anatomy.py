"""The anatomy-wise loss and its gradients on one rank, for tests that compare ranks."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from medvlp.data.organ_captions import normal_sentence
from medvlp.losses.anatomy import AnatomyContrastiveLoss
from medvlp.types import AnatomyOutput


def captions_batch(captions: Mapping[str, Sequence[str]], numbers: Sequence[int]) -> Any:
    """Write what the loss reads of a batch: every organ's text of these patients.

    Equal captions have equal numbers on all ranks.
    """
    ids = {text: k for k, text in enumerate({t: 0 for each in captions.values() for t in each})}
    rows = [
        (
            row,
            k,
            captions[organ][number].startswith(normal_sentence(organ)),
            captions[organ][number],
        )
        for row, number in enumerate(numbers)
        for k, organ in enumerate(captions)
    ]
    return {
        "text_study": torch.tensor([row[0] for row in rows], dtype=torch.int64),
        "text_organ": torch.tensor([row[1] for row in rows], dtype=torch.int64),
        "text_normal": torch.tensor([row[2] for row in rows], dtype=torch.bool),
        "text_caption": torch.tensor([ids[row[3]] for row in rows], dtype=torch.int64),
    }


def anatomy_gradients(
    rank: int, loss: AnatomyContrastiveLoss, parts: list[dict[str, Tensor]], batches: list[Any]
) -> dict[str, Tensor]:
    """Feed part `rank` (image_raw, text_raw, present, temperature) to the loss.

    Returns:
        The loss as "loss", each organ's as "loss.<organ>_itc", and gradients as "grad.<name>",
        before any averaging over ranks.
    """
    part = parts[rank]
    image, text, temperature = (
        part[name].clone().requires_grad_() for name in ("image_raw", "text_raw", "temperature")
    )
    output = AnatomyOutput(
        organ_embedding=F.normalize(image, dim=-1),
        present=part["present"].bool(),
        text_embedding=F.normalize(text, dim=-1).flatten(0, 1),
        temperature=temperature,
    )
    losses = loss(output, batches[rank])
    losses["total"].backward()
    found = {"loss": losses.pop("total").detach()}
    found |= {f"loss.{organ}_itc": value.detach() for organ, value in losses.items()}
    leaves = {"image_raw": image, "text_raw": text, "temp": temperature}
    return found | {f"grad.{name}": leaf.grad for name, leaf in leaves.items()}  # pyright: ignore


def many_anatomy_gradients(rank: int, jobs: list[tuple[Any, ...]]) -> list[dict[str, Tensor]]:
    """Run `anatomy_gradients` for several losses in one process group."""
    return [anatomy_gradients(rank, *job) for job in jobs]
