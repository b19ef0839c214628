"""Stochastic depth: skip a residual branch for whole sequences; or drop single numbers of it."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class DropPath(nn.Module):
    """Zero a residual branch for random sequences in training, scaling the others up.

    Args:
        prob: Probability of a sequence to lose the branch, in [0, 1).
    """

    def __init__(self, prob: float = 0.0) -> None:
        super().__init__()
        if not 0.0 <= prob < 1.0:
            raise ValueError(f"drop path probability {prob} is outside [0, 1)")
        self.prob = prob

    def forward(
        self, x: Float[Tensor, "*s n c"], lengths: Sequence[int] | None = None
    ) -> Float[Tensor, "*s n c"]:
        """Drop the branch `x`.

        Args:
            x: Dense (s n c), or packed (n c) together with `lengths`.
            lengths: Tokens of each packed sequence.
        """
        if not self.training or self.prob == 0.0:
            return x
        keep = 1.0 - self.prob
        num_sequences = x.shape[0] if lengths is None else len(lengths)
        scale = x.new_empty(num_sequences, 1).bernoulli_(keep).div_(keep)
        if lengths is None:
            return x * scale[:, :, None]
        pairs = zip(scale, lengths, strict=True)
        return x * torch.cat([row.expand(length) for row, length in pairs])[:, None]

    def extra_repr(self) -> str:
        """Show the probability in the printed model."""
        return f"prob={self.prob}"


class BranchDropout(nn.Module):
    """Zero single numbers at the end of a residual branch in training, where `DropPath` stands.

    Args:
        prob: Probability of a number to be dropped.
    """

    def __init__(self, prob: float) -> None:
        super().__init__()
        self.prob = prob

    def forward(
        self, x: Float[Tensor, "*s n c"], lengths: Sequence[int] | None = None
    ) -> Float[Tensor, "*s n c"]:
        """Drop numbers of the branch `x`, dense or packed."""
        return F.dropout(x, self.prob, self.training)


def drop_path_ramp(prob: float, depth: int) -> list[float]:
    """Spread drop path linearly over the blocks, from 0 to `prob`.

    >>> drop_path_ramp(0.2, 3)
    [0.0, 0.1, 0.2]
    """
    return [prob * i / max(1, depth - 1) for i in range(depth)]
