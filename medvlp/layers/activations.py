"""Activation functions that PyTorch lacks."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

_SLOPE = 1.702


class _QuickGelu(torch.autograd.Function):
    """Keeps its input alone for the backward pass, where the plain formula keeps two tensors."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return (x * _SLOPE).sigmoid_().mul_(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:  # pyright: ignore
        (x,) = ctx.saved_tensors
        # x sigmoid(s x) is silu(s x) / s, whose derivative is that of silu, taken at s x
        return torch.ops.aten.silu_backward(gradients[0], x * _SLOPE)


def quick_gelu(x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Return x sigmoid(1.702 x), the GELU of the first CLIP models.

    >>> quick_gelu(torch.tensor([-1.0, 0.0, 1.0]))
    tensor([-0.1542,  0.0000,  0.8458])
    """
    return _QuickGelu.apply(x)  # pyright: ignore[reportReturnType]
