"""Cross attention that refines a query by what it looks at."""

import math

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class GuidedAttention(nn.Module):
    """Return LayerNorm(q + out(attention)) of one head, where q is the projected query.

    The residual is the query after its projection, not before.

    Args:
        dim: Width of queries and results.
        context_dim: Width of what is looked at; None for `dim`.
        dropout: Probability in training, of the attention weights and of what is added.

    Reference: HSENet (arXiv 2506.09634) as its code has it (github.com/YanzhaoShi/HSENet): the
    attention of its second stage and of its spatial packer.
    """

    def __init__(self, dim: int, context_dim: int | None = None, *, dropout: float = 0.1) -> None:
        super().__init__()
        width = dim if context_dim is None else context_dim
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(width, dim)
        self.value = nn.Linear(width, dim)
        self.out = nn.Linear(dim, dim)
        self.norm = nn.LayerNorm(dim, eps=1e-5)
        self.dropout = dropout

    def forward(
        self, x: Float[Tensor, "n q c"], context: Float[Tensor, "n m f"]
    ) -> Float[Tensor, "n q c"]:
        """Refine each row of `x` by the rows of its context."""
        query, prob = self.query(x), self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(
            query[:, None], self.key(context)[:, None], self.value(context)[:, None], dropout_p=prob
        )
        return self.norm(query + F.dropout(self.out(mixed[:, 0]), prob, training=self.training))

    def weights(
        self, x: Float[Tensor, "n q c"], context: Float[Tensor, "n m f"]
    ) -> Float[Tensor, "n q m"]:
        """Return the attention weights alone, without dropout."""
        query = self.query(x)
        scores = query @ self.key(context).mT / math.sqrt(query.shape[-1])
        return scores.softmax(dim=-1)
