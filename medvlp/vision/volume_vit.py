"""HSENet's first image tower: a plain 3D ViT with a class token."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from medvlp.layers.attention import Attention, AttentionBackend
from medvlp.layers.block import Block
from medvlp.layers.patch_embed import ConvStemPatchEmbed, PerceptronPatchEmbed
from medvlp.layers.size import as_size
from medvlp.types import Size3D

_NORM_EPS = 1e-5


class VolumeViT(nn.Module):
    """Encode volumes of one size, one scan a study.

    Args:
        image_size: Voxels of a volume.
        patch_size: Voxels of a patch; must divide the volume.
        width: Of the tokens.
        depth: Number of blocks.
        num_heads: Attention heads.
        mlp_dim: Hidden width of the MLPs.
        in_channels: Channels of the volumes.
        stem_stages: Stride-2 convolutions before the tokens, see `ConvStemPatchEmbed`; 0 as
            published, a linear embedding of patches.
        attention: Backend, see `medvlp.layers.attention`.
        activation_checkpointing: Recompute the blocks in the backward pass to save memory.

    Raises:
        ValueError: If the patch does not divide the volume, or the stem the patch.

    Reference: HSENet (arXiv 2506.09634), first stage; its code, github.com/YanzhaoShi/HSENet.
    """

    def __init__(
        self,
        image_size: Sequence[int],
        patch_size: Sequence[int],
        *,
        width: int,
        depth: int,
        num_heads: int,
        mlp_dim: int,
        in_channels: int = 1,
        stem_stages: int = 0,
        attention: AttentionBackend = "sdpa",
        activation_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.image_size = as_size(image_size, "image_size")
        self.patch_size = as_size(patch_size, "patch_size")
        self.grid = _grid(self.image_size, self.patch_size)
        self.embed_dim = width
        self.activation_checkpointing = activation_checkpointing
        self.patch_embed = _patch_embed(in_channels, self.patch_size, width, stem_stages)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        # One axis of tokens, as published: the grid leaves no trace in the weights.
        self.pos_embed = nn.Parameter(torch.empty(1, self.num_patches, width))
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        self.blocks = nn.ModuleList(
            _block(width, num_heads, mlp_dim, attention) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width, eps=_NORM_EPS)

    @property
    def num_patches(self) -> int:
        """Tokens of a volume beside the class token."""
        return self.grid[0] * self.grid[1] * self.grid[2]

    def forward(
        self, image: Float[Tensor, "n c d h w"], num_scans: Int[Tensor, " b"]
    ) -> Float[Tensor, "b e"]:
        """Return the class token of each volume, before projection.

        The last block computes the class token alone: nothing else of it is used.

        Raises:
            ValueError: If a study has several scans, or a volume is not of the tower's size.
        """
        self._check_studies(image, num_scans)
        return self._class_token(self.embed(image))

    def tokens(self, image: Float[Tensor, "n c d h w"]) -> Float[Tensor, "n t e"]:
        """Return all tokens after the last LayerNorm: the class token, then depth, height, width.

        Raises:
            ValueError: If a volume is not of the tower's size.
        """
        return self._all_tokens(self.embed(image))

    def embed(self, image: Float[Tensor, "n c d h w"]) -> Float[Tensor, "n t e"]:
        """Return the patch tokens before the first block, positions added.

        Raises:
            ValueError: If a volume is not of the tower's size.
        """
        expected = (self.patch_embed.in_channels, *self.image_size)
        if tuple(image.shape[1:]) != expected:
            raise ValueError(
                f"volumes of {tuple(image.shape[1:])} came (channels, depth, height, width), the "
                f"tower takes {expected}; choose the data recipe of this model, or set "
                "model.vision.image_size"
            )
        return self._place(self.patch_embed(image).flatten(1, 3))

    def _place(self, patches: Tensor) -> Tensor:
        return patches + self.pos_embed

    def _check_studies(self, image: Tensor, num_scans: Tensor) -> None:
        if len(num_scans) != len(image):
            raise ValueError(
                f"{len(image)} scans came for {len(num_scans)} studies; HSENet encodes one scan a "
                "study: sample one scan of each (scans_per_study: 1), or give each a study"
            )

    def _all_tokens(self, patches: Tensor) -> Tensor:
        tokens = self._prepend_class(patches)
        for block in self.blocks:
            tokens = self._run_block(block, tokens, only_first=False)
        return self.norm(tokens)

    def _class_token(self, patches: Tensor) -> Tensor:
        tokens, last = self._prepend_class(patches), len(self.blocks) - 1
        for number, block in enumerate(self.blocks):
            tokens = self._run_block(block, tokens, only_first=number == last)
        return self.norm(tokens[:, 0])

    def _prepend_class(self, patches: Tensor) -> Tensor:
        # Without a position: the published table has none for it.
        cls_token = self.cls_token.to(patches.dtype).expand(len(patches), 1, -1)
        return torch.cat((cls_token, patches), dim=1)

    def _run_block(self, block: nn.Module, tokens: Tensor, *, only_first: bool) -> Tensor:
        if self.activation_checkpointing and self.training and torch.is_grad_enabled():
            return checkpoint(block, tokens, only_first=only_first, use_reentrant=False)
        return block(tokens, only_first=only_first)


def _grid(image_size: Size3D, patch_size: Size3D) -> Size3D:
    if any(size % patch for size, patch in zip(image_size, patch_size, strict=True)):
        raise ValueError(
            f"volumes of {image_size} voxels do not divide into patches of {patch_size}; choose "
            "image_size as a multiple of patch_size"
        )
    depth, height, width = (
        size // patch for size, patch in zip(image_size, patch_size, strict=True)
    )
    return depth, height, width


def _patch_embed(
    in_channels: int, patch_size: Size3D, width: int, stages: int
) -> PerceptronPatchEmbed | ConvStemPatchEmbed:
    if not stages:
        return PerceptronPatchEmbed(in_channels, patch_size, width)
    scale = 2**stages
    if any(patch % scale for patch in patch_size):
        raise ValueError(
            f"patches of {patch_size} voxels cannot be halved {stages} times; lower stem_stages, "
            f"or choose multiples of {scale}"
        )
    first = [patch // scale for patch in patch_size]
    return ConvStemPatchEmbed(in_channels, first, embed_dim=width, num_stages=stages)


def _block(width: int, num_heads: int, mlp_dim: int, attention: AttentionBackend) -> Block:
    ratio = (mlp_dim + 0.5) / width  # the block rounds down
    block = Block(width, num_heads, mlp_ratio=ratio, attention=attention, norm_eps=_NORM_EPS)
    block.attn = Attention(width, num_heads, qkv_bias=False, backend=attention)  # as published
    return block
