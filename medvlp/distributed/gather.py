"""Gathering over ranks, with the three gradients that published contrastive losses use."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.distributed as dist
import torch.nn.functional as F
from jaxtyping import Num
from torch import Tensor
from torch.autograd.function import once_differentiable

from medvlp.distributed.world import rank, world_size

GatherGradient = Literal["all", "own", "none"]
"""Which rows of a gathered tensor carry gradient.

all: every row; its gradient is summed over the ranks and returned to the rank that owns it.
own: this rank's rows, as if it had never been gathered; the others are constants.
none: no row.
"""


class _AllGather(torch.autograd.Function):
    """Concatenate the rows of all ranks; backward sums the gradients at their owner."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        return _concatenate(rows)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        parts = [part.contiguous() for part in grad.chunk(world_size())]
        own = torch.empty_like(parts[0])
        dist.reduce_scatter(own, parts)
        return own


def gather(
    rows: Num[Tensor, "b *rest"], gradient: GatherGradient = "all"
) -> Num[Tensor, "all_b *rest"]:
    """Concatenate the rows of all ranks in rank order; every rank must bring as many.

    Args:
        rows: Returned as they are (detached for "none") where there is one process.
        gradient: Which rows carry gradient.
    """
    if gradient == "all":
        return _AllGather.apply(rows) if world_size() > 1 else rows
    constant = _concatenate(rows.detach()) if world_size() > 1 else rows.detach()
    if gradient == "none":
        return constant
    start = rank() * len(rows)
    return torch.cat([constant[:start], rows, constant[start + len(rows) :]])


def gather_ragged(
    rows: Num[Tensor, "b *rest"], counts: Sequence[int], *, gradient: GatherGradient = "all"
) -> Num[Tensor, "all_b *rest"]:
    """Concatenate the rows of all ranks where rank r brings `counts[r]` of them.

    Args:
        rows: This rank's rows.
        counts: Rows of every rank, as `gather_sizes` tells.
        gradient: Which rows carry gradient.
    """
    longest = max(counts)
    padding = (0, 0) * (rows.ndim - 1) + (0, longest - len(rows))
    gathered = gather(F.pad(rows, padding), gradient).unflatten(0, (len(counts), longest))
    return torch.cat([part[:count] for part, count in zip(gathered, counts, strict=True)])


def gather_sizes(sizes: Sequence[int], device: torch.device) -> list[list[int]]:
    """Tell every rank the sizes of all: one row per rank. Waits for the device if distributed."""
    if world_size() == 1:
        return [list(sizes)]
    return _concatenate(torch.tensor([list(sizes)], device=device)).tolist()


def gather_objects(items: list[Any]) -> list[Any]:
    """Concatenate picklable lists of all ranks in rank order."""
    if world_size() == 1:
        return items
    parts: list[list[Any]] = [[] for _ in range(world_size())]
    dist.all_gather_object(parts, items)
    return [item for part in parts for item in part]


def _concatenate(rows: Tensor) -> Tensor:
    gathered = rows.new_empty(world_size() * len(rows), *rows.shape[1:])
    dist.all_gather(list(gathered.chunk(world_size())), rows.contiguous())
    return gathered
