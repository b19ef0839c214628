"""Two-layer perceptron of a transformer block."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class Mlp(nn.Module):
    """Linear, exact (erf) GELU, linear.

    Args:
        dim: Width in and out.
        hidden_dim: Width between.
    """

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden_dim)
        self.fc2 = nn.Linear(hidden_dim, dim)

    def forward(self, x: Float[Tensor, "*s n c"]) -> Float[Tensor, "*s n c"]:
        """Transform each token alone."""
        hidden = self.fc1(x)
        if torch.is_grad_enabled():
            return self.fc2(F.gelu(hidden))
        # The hidden activations are the largest tensor of the tower; a second copy of them costs
        # as much time on a CPU as the activation function itself.
        return self.fc2(torch.ops.aten.gelu_(hidden))
