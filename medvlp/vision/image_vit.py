"""CLIP's ViT: one image, one class token."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from medvlp.layers.attention import AttentionBackend
from medvlp.layers.block import Block
from medvlp.layers.mlp import Activation
from medvlp.layers.patch_embed import PatchEmbed2D, square_patches

_NORM_EPS = 1e-5


class ImageViT(nn.Module):
    """Encode square images of one size; an image is a study of one scan.

    Tokens pass a LayerNorm before the first block; the features are those of the class token after
    the last LayerNorm.

    Args:
        image_size: Pixels of a side.
        patch_size: Pixels of a side of a patch; must divide `image_size`.
        width: Of the tokens.
        depth: Number of blocks.
        num_heads: Attention heads.
        mlp_ratio: Hidden width of the MLPs in units of `width`.
        activation: Of the MLPs.
        in_channels: Channels of the images.
        attention: Backend, see `medvlp.layers.attention`.
        activation_checkpointing: Recompute the blocks in the backward pass to save memory.

    Raises:
        ValueError: If the patch does not divide the image.

    Reference: Radford et al., CLIP (ICML 2021), Sec. 2.4; the image tower of MetaCLIP and
    UniMed-CLIP.
    """

    def __init__(
        self,
        image_size: int,
        patch_size: int,
        *,
        width: int,
        depth: int,
        num_heads: int,
        mlp_ratio: float = 4.0,
        activation: Activation = "quick_gelu",
        in_channels: int = 3,
        attention: AttentionBackend = "sdpa",
        activation_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        num_tokens = 1 + square_patches(image_size, patch_size)
        self.image_size = image_size
        self.embed_dim = width
        self.activation_checkpointing = activation_checkpointing
        self.patch_embed = PatchEmbed2D(in_channels, patch_size, width)
        # A vector, as published: so it is not decayed, while the positions are.
        self.cls_token = nn.Parameter(width**-0.5 * torch.randn(width))
        self.pos_embed = nn.Parameter(width**-0.5 * torch.randn(num_tokens, width))
        self.norm_pre = nn.LayerNorm(width, eps=_NORM_EPS)
        self.blocks = nn.ModuleList(
            Block(
                width,
                num_heads,
                mlp_ratio=mlp_ratio,
                attention=attention,
                norm_eps=_NORM_EPS,
                activation=activation,
            )
            for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width, eps=_NORM_EPS)

    def forward(
        self, image: Float[Tensor, "n c h w"], num_scans: Int[Tensor, " b"]
    ) -> Float[Tensor, "b e"]:
        """Return the features of each image, before projection.

        The last block computes the class token alone: nothing else of it is used.

        Args:
            image: Normalised.
            num_scans: One per image, all ones.

        Raises:
            ValueError: If a study has several images, or they are not of the tower's size.
        """
        tokens = self._embed(image, num_scans)
        last = len(self.blocks) - 1
        for number, block in enumerate(self.blocks):
            tokens = self._run_block(block, tokens, only_first=number == last)
        return self.norm(tokens[:, 0])

    def tokens(
        self, image: Float[Tensor, "n c h w"], num_scans: Int[Tensor, " b"]
    ) -> Float[Tensor, "n t e"]:
        """Return all tokens after the last block, the class token first, patches row by row.

        Raises:
            ValueError: As `forward`.
        """
        tokens = self._embed(image, num_scans)
        for block in self.blocks:
            tokens = self._run_block(block, tokens, only_first=False)
        return tokens

    def _embed(self, image: Tensor, num_scans: Tensor) -> Tensor:
        self._check(image, num_scans)
        patches = self.patch_embed(image)
        cls_token = self.cls_token.expand(len(patches), 1, -1)
        return self.norm_pre(torch.cat((cls_token, patches), dim=1) + self.pos_embed)

    def _run_block(self, block: nn.Module, tokens: Tensor, *, only_first: bool) -> Tensor:
        if self.activation_checkpointing and self.training and torch.is_grad_enabled():
            return checkpoint(block, tokens, only_first=only_first, use_reentrant=False)
        return block(tokens, only_first=only_first)

    def _check(self, image: Tensor, num_scans: Tensor) -> None:
        if len(num_scans) != len(image):
            raise ValueError(
                f"{len(image)} images came for {len(num_scans)} studies; this tower encodes "
                "single images: give each a study of its own, or choose a tower for several scans"
            )
        expected = (self.patch_embed.proj.in_channels, self.image_size, self.image_size)
        if tuple(image.shape[1:]) != expected:
            raise ValueError(
                f"images of {tuple(image.shape[1:])} came (channels, height, width), the tower "
                f"takes {expected}; choose the data recipe of this model, or set "
                "model.vision.image_size"
            )
