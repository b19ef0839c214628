"""CLIP's text tower."""

from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from medvlp.layers.attention import Attention
from medvlp.layers.block import Block
from medvlp.types import Tokens

ClipFreeze = Literal["none", "all"]

_NORM_EPS = 1e-5


class ClipTextTransformer(nn.Module):
    """Encode a text as the features of its end token; a token looks back only.

    The end token has the largest id of the vocabulary. What follows it changes nothing: texts on
    the CPU are cut to the longest before anything is computed.

    Args:
        vocab_size: Tokens of the vocabulary.
        context_length: Positions.
        width: Of the tokens.
        depth: Number of blocks.
        num_heads: Attention heads.
        embed_dim: Width of the features, after a projection without bias.
        freeze: "all" trains nothing.
        activation_checkpointing: Recompute the blocks in the backward pass to save memory.

    Attributes:
        width: Of the features.
        starts_at_random: True: its weights come from elsewhere, or are learned.

    Raises:
        ValueError: If `freeze` is unknown.

    Reference: Radford et al., CLIP (ICML 2021), Sec. 2.4; the defaults are those of ViT-B/32.
    """

    starts_at_random = True

    def __init__(
        self,
        vocab_size: int = 49408,
        context_length: int = 77,
        *,
        width: int = 512,
        depth: int = 12,
        num_heads: int = 8,
        embed_dim: int = 512,
        freeze: ClipFreeze = "none",
        activation_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        if freeze not in get_args(ClipFreeze):
            raise ValueError(f"freeze {freeze!r} is unknown; choose one of {get_args(ClipFreeze)}")
        self.vocab_size, self.context_length = vocab_size, context_length
        self.width = embed_dim
        self.activation_checkpointing = activation_checkpointing
        self.token_embed = nn.Embedding(vocab_size, width)
        self.pos_embed = nn.Parameter(torch.empty(context_length, width))
        self.blocks = nn.ModuleList(_causal_block(width, num_heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=_NORM_EPS)
        self.projection = nn.Linear(width, embed_dim, bias=False)
        nn.init.normal_(self.token_embed.weight, std=0.02)  # CLIP's own start, and the next two
        nn.init.normal_(self.pos_embed, std=0.01)
        nn.init.normal_(self.projection.weight, std=width**-0.5)
        self.requires_grad_(freeze == "none")

    def forward(self, tokens: Tokens) -> Float[Tensor, "t c"]:
        """Return the features of each text, projected.

        Raises:
            ValueError: If a text is longer than the table of positions.
        """
        input_ids = tokens.input_ids
        end = input_ids.argmax(dim=1)
        if input_ids.is_cpu:  # elsewhere the host would wait
            input_ids = input_ids[:, : int(end.max()) + 1]
        length = input_ids.shape[1]
        if length > self.context_length:
            raise ValueError(
                f"texts of {length} tokens came, the text tower has {self.context_length} "
                "positions; lower tokenizer.context_length"
            )
        x = self.token_embed(input_ids) + self.pos_embed[:length]
        for block in self.blocks:
            x = self._run_block(block, x)
        rows = torch.arange(len(x), device=x.device)
        return self.projection(self.norm(x[rows, end]))

    def _run_block(self, block: nn.Module, x: Tensor) -> Tensor:
        if self.activation_checkpointing and self.training and torch.is_grad_enabled():
            return checkpoint(block, x, use_reentrant=False)
        return block(x)


def _causal_block(width: int, num_heads: int) -> Block:
    block = Block(width, num_heads, norm_eps=_NORM_EPS, activation="quick_gelu")
    block.attn = Attention(width, num_heads, causal=True)
    return block
