"""fVLM's image tower: a plain 3D ViT that hands out the tokens of several depths."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from medvlp.layers.attention import AttentionBackend
from medvlp.layers.block import Block
from medvlp.layers.patch_embed import ConvStemPatchEmbed, PatchEmbed3D
from medvlp.layers.pos_embed import resample_grid
from medvlp.layers.size import as_size

_NORM_EPS = 1e-5


class AnatomyViT(nn.Module):
    """Encode volumes, one scan a study, into patch tokens of several depths.

    There is no class token: what an organ looks like is pooled from the tokens that it covers.

    Args:
        patch_embed: From voxels to a grid of tokens; the patch need not be a cube.
        grid: Token grid of the position table; other grids resize it trilinearly.
        depth: Number of blocks.
        num_heads: Attention heads.
        mlp_ratio: Hidden width of the MLPs in units of the tokens' width.
        taps: Blocks, counted from 1, whose tokens are handed out as they are, beside the last
            block's after the final LayerNorm.
        dropout: Probability in training, of tokens' channels after the positions and in the blocks.
        attention: Backend, see `medvlp.layers.attention`.
        activation_checkpointing: Recompute the blocks in the backward pass to save memory.

    Raises:
        ValueError: If the taps are no ascending blocks.

    Reference: fVLM (ICLR 2025, arXiv 2501.14548); its code, github.com/alibaba-damo-academy/fvlm.
    """

    def __init__(
        self,
        patch_embed: PatchEmbed3D | ConvStemPatchEmbed,
        grid: Sequence[int],
        *,
        depth: int,
        num_heads: int,
        mlp_ratio: float = 4.0,
        taps: Sequence[int] = (4, 7, 10),
        dropout: float = 0.0,
        attention: AttentionBackend = "sdpa",
        activation_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.taps = _check_taps(taps, depth)
        self.activation_checkpointing = activation_checkpointing
        self.patch_embed = patch_embed
        self.grid = as_size(grid, "grid")
        width = self.embed_dim = patch_embed.embed_dim
        d, h, w = self.grid
        # One axis of tokens, as published: the grid leaves no trace in the weights.
        self.pos_embed = nn.Parameter(torch.empty(1, d * h * w, width))
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(
            Block(
                width,
                num_heads,
                mlp_ratio=mlp_ratio,
                attention=attention,
                norm_eps=_NORM_EPS,
                dropout=dropout,
            )
            for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width, eps=_NORM_EPS)

    @property
    def num_levels(self) -> int:
        """How many depths hand out their tokens."""
        return len(self.taps) + 1

    def forward(
        self, image: Float[Tensor, "n c d h w"], num_scans: Int[Tensor, " b"]
    ) -> Float[Tensor, "n v t e"]:
        """Return the tokens of each tapped block, and last the normalised ones of the last block.

        Tokens lie in the order depth, height, width.

        Raises:
            ValueError: If a study has several scans, or the volume does not suit.
        """
        if len(num_scans) != len(image):
            raise ValueError(
                f"{len(image)} scans came for {len(num_scans)} studies; fVLM encodes one scan a "
                "study: sample one scan of each (scans_per_study: 1), or give each a study"
            )
        tokens = self.embed(image)
        levels = []
        for number, block in enumerate(self.blocks, start=1):
            tokens = self._run_block(block, tokens)
            if number in self.taps:
                levels.append(tokens)
        return torch.stack([*levels, self.norm(tokens)], dim=1)

    def embed(self, image: Float[Tensor, "n c d h w"]) -> Float[Tensor, "n t e"]:
        """Return the tokens before the first block, positions added."""
        patches = self.patch_embed(image)
        table = self.pos_embed.unflatten(1, self.grid)
        size = patches.shape[1:4]
        patches = patches + resample_grid(table, (size[0], size[1], size[2]))
        return self.dropout(patches.flatten(1, 3))

    def _run_block(self, block: nn.Module, tokens: Tensor) -> Tensor:
        if self.activation_checkpointing and self.training and torch.is_grad_enabled():
            return checkpoint(block, tokens, use_reentrant=False)
        return block(tokens)


def _check_taps(taps: Sequence[int], depth: int) -> tuple[int, ...]:
    if list(taps) != sorted({*taps} & {*range(1, depth + 1)}):
        raise ValueError(
            f"taps {list(taps)} do not suit {depth} blocks; give ascending numbers of blocks, from "
            f"1 to {depth}"
        )
    return tuple(taps)
