"""Passing blocks of rows from rank to rank, so that no rank holds them all at once."""

from collections.abc import Iterator
from typing import Any, Literal

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from medvlp.distributed.gather import gather
from medvlp.distributed.world import rank, world_size

Exchange = Literal["bidir", "shift", "reduce", "gather"]
"""How the blocks travel; all give the same values and gradients.

bidir: around the ring in both directions at once, half as many steps.
shift: around the ring in one direction.
reduce: broadcast one block after the other; gradients are reduced to the owner.
gather: all at once (most memory).
"""


class _Pass(torch.autograd.Function):
    """Send tensors to ring neighbours and receive theirs; gradients travel back."""

    @staticmethod
    def forward(ctx: Any, steps: tuple[int, ...], *blocks: Tensor) -> tuple[Tensor, ...]:
        ctx.steps = steps
        return _swap(blocks, steps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return None, *_swap(grads, tuple(-step for step in ctx.steps))


class _Broadcast(torch.autograd.Function):
    """Give every rank the block of one; its gradients are summed there."""

    @staticmethod
    def forward(ctx: Any, block: Tensor, source: int) -> Tensor:
        ctx.source = source
        received = block.detach().clone(memory_format=torch.contiguous_format)
        dist.broadcast(received, source)
        return received

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        total = grad.clone(memory_format=torch.contiguous_format)
        dist.reduce(total, ctx.source)
        return (total if rank() == ctx.source else torch.zeros_like(total)), None


def exchange_blocks(
    block: Float[Tensor, "b e"], how: Exchange = "bidir"
) -> Iterator[tuple[Float[Tensor, "b e"], bool]]:
    """Yield the block of every rank once, with whether it is this rank's own.

    Every rank must bring as many rows and must use every block that it is given: the gradient of a
    foreign block is carried back to its owner and summed there.
    """
    world = world_size()
    if world == 1:
        yield block, True
    elif how == "gather":
        for source, part in enumerate(gather(block).chunk(world)):
            yield part, source == rank()
    elif how == "reduce":
        for source in range(world):
            yield _Broadcast.apply(block, source), source == rank()
    else:
        yield block, True
        for foreign in _around_the_ring(block, both_ways=how == "bidir"):
            yield foreign, False


def _around_the_ring(block: Tensor, both_ways: bool) -> Iterator[Tensor]:
    leftward = rightward = block
    remaining = world_size() - 1
    while both_ways and remaining >= 2:
        leftward, rightward = _Pass.apply((-1, 1), leftward, rightward)
        remaining -= 2
        yield rightward
        yield leftward
    for _ in range(remaining):
        (rightward,) = _Pass.apply((1,), rightward)
        yield rightward


def _swap(blocks: tuple[Tensor, ...], steps: tuple[int, ...]) -> tuple[Tensor, ...]:
    """Send block k to the rank `steps[k]` further along the ring, receive from the opposite."""
    sent = [block.contiguous() for block in blocks]
    received = [torch.empty_like(block) for block in sent]
    operations = []
    for source, target, step in zip(sent, received, steps, strict=True):
        operations.append(dist.P2POp(dist.isend, source, (rank() + step) % world_size()))
        operations.append(dist.P2POp(dist.irecv, target, (rank() - step) % world_size()))
    for request in dist.batch_isend_irecv(operations):
        request.wait()
    return tuple(received)
