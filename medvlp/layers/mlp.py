"""Two-layer perceptrons: of a transformer block, and from features to an embedding."""

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from medvlp.layers.activations import quick_gelu

Activation = Literal["gelu", "quick_gelu"]
"""gelu: exact, by the error function; quick_gelu: x sigmoid(1.702 x), that of the first CLIPs."""


class Mlp(nn.Module):
    """Linear, activation, linear.

    Args:
        dim: Width in and out.
        hidden_dim: Width between.
        activation: See `Activation`.
        dropout: Probability in training, after each linear layer.
    """

    def __init__(
        self, dim: int, hidden_dim: int, *, activation: Activation = "gelu", dropout: float = 0.0
    ) -> None:
        super().__init__()
        check_activation(activation)
        self.activation: Activation = activation
        self.fc1 = nn.Linear(dim, hidden_dim)
        self.fc2 = nn.Linear(hidden_dim, dim)
        self.dropout = dropout

    def forward(self, x: Float[Tensor, "*s n c"]) -> Float[Tensor, "*s n c"]:
        """Transform each token alone."""
        hidden = self._activate(self.fc1(x))
        if not (self.training and self.dropout):
            return self.fc2(hidden)
        return F.dropout(self.fc2(F.dropout(hidden, self.dropout)), self.dropout)

    def _activate(self, hidden: Tensor) -> Tensor:
        if self.activation == "quick_gelu":
            return quick_gelu(hidden)
        if torch.is_grad_enabled():
            return F.gelu(hidden)
        # The hidden activations are the largest tensor of the tower; a second copy of them costs
        # as much time on a CPU as the activation function itself.
        return torch.ops.aten.gelu_(hidden)

    def extra_repr(self) -> str:
        """Show the activation in the printed model."""
        return f"activation={self.activation}"


class MlpProjection(nn.Module):
    """Linear, exact GELU, linear, without biases: from features to an embedding.

    Args:
        in_features: Width of the features.
        hidden_features: Width between.
        out_features: Width of the embedding.

    Reference: the text head of open_clip's "mlp" projection, which BiomedCLIP and UniMed-CLIP use.
    """

    def __init__(self, in_features: int, hidden_features: int, out_features: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(in_features, hidden_features, bias=False)
        self.fc2 = nn.Linear(hidden_features, out_features, bias=False)

    def forward(self, x: Float[Tensor, "*b c"]) -> Float[Tensor, "*b e"]:
        """Project each feature vector."""
        return self.fc2(F.gelu(self.fc1(x)))


def check_activation(activation: str) -> None:
    """Refuse an unknown activation.

    Raises:
        ValueError: If the name is unknown.
    """
    if activation not in get_args(Activation):
        known = ", ".join(get_args(Activation))
        raise ValueError(f"activation {activation!r} is unknown; choose one of {known}")
