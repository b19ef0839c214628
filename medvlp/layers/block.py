"""Pre-norm transformer block."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from medvlp.layers.attention import Attention, AttentionBackend
from medvlp.layers.drop_path import DropPath
from medvlp.layers.mlp import Activation, Mlp


class Block(nn.Module):
    """Attention and MLP, each after a LayerNorm and added to its input.

    Args:
        dim: Width of the tokens.
        num_heads: Attention heads.
        mlp_ratio: Hidden width of the MLP in units of `dim`.
        drop_path_prob: Probability of a sequence to skip a branch in training.
        attention: Attention backend.
        norm_eps: Epsilon of the LayerNorms.
        activation: Of the MLP.
        dropout: Probability in training, of attention weights and after every linear layer but
            that of queries, keys and values.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        mlp_ratio: float = 4.0,
        drop_path_prob: float = 0.0,
        attention: AttentionBackend = "sdpa",
        norm_eps: float = 1e-6,
        activation: Activation = "gelu",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=norm_eps)
        self.attn = Attention(dim, num_heads, backend=attention, dropout=dropout)
        self.norm2 = nn.LayerNorm(dim, eps=norm_eps)
        self.mlp = Mlp(dim, int(dim * mlp_ratio), activation=activation, dropout=dropout)
        self.drop_path = DropPath(drop_path_prob)

    def forward(
        self,
        x: Float[Tensor, "*s n c"],
        lengths: Sequence[int] | None = None,
        *,
        only_first: bool = False,
    ) -> Float[Tensor, "*s m c"]:
        """Transform dense (s n c) tokens, or packed (n c) ones together with their lengths.

        Args:
            x: Tokens.
            lengths: Of packed sequences.
            only_first: Return the first token of each dense sequence alone, for a last block of
                which nothing else is wanted; a sixth of the work.
        """
        if only_first:
            x = x[:, :1] + self.drop_path(self.attn.first(self.norm1(x)))
            return x + self.drop_path(self.mlp(self.norm2(x)))
        x = x + self.drop_path(self.attn(self.norm1(x), lengths), lengths)
        return x + self.drop_path(self.mlp(self.norm2(x)), lengths)
