"""The 2D network that looks at slices for HSENet: the image trunk of BiomedCLIP."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from medvlp.layers.block import Block
from medvlp.layers.patch_embed import PatchEmbed2D, square_patches

_NORM_EPS = 1e-6


class SliceEncoder(nn.Module):
    """Encode slices as features of a ViT's class token after the last LayerNorm.

    The default sizes are BiomedCLIP's, a ViT-B/16 in the layout of timm; its projection to 512
    channels is not part of it. Used frozen, to prepare data.

    Args:
        image_size: Pixels of a side.
        patch_size: Pixels of a side of a patch; must divide `image_size`.
        width: Of the tokens.
        depth: Number of blocks.
        num_heads: Attention heads.
        mlp_dim: Hidden width of the MLPs.

    Raises:
        ValueError: If the patch does not divide the image.

    Reference: BiomedCLIP (arXiv 2303.00915); HSENet (arXiv 2506.09634) takes it without its head.
    """

    def __init__(
        self,
        image_size: int = 224,
        patch_size: int = 16,
        *,
        width: int = 768,
        depth: int = 12,
        num_heads: int = 12,
        mlp_dim: int = 3072,
    ) -> None:
        super().__init__()
        num_tokens = 1 + square_patches(image_size, patch_size)
        self.image_size = image_size
        self.embed_dim = width
        self.patch_embed = PatchEmbed2D(3, patch_size, width, bias=True)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.empty(1, num_tokens, width))
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        ratio = (mlp_dim + 0.5) / width  # the block rounds down
        self.blocks = nn.ModuleList(
            Block(width, num_heads, mlp_ratio=ratio, norm_eps=_NORM_EPS) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width, eps=_NORM_EPS)

    def forward(self, slices: Float[Tensor, "m c h w"]) -> Float[Tensor, "m f"]:
        """Return the features of each slice.

        Args:
            slices: Normalised, red, green and blue.

        Raises:
            ValueError: If they are not of the encoder's size.
        """
        expected = (3, self.image_size, self.image_size)
        if tuple(slices.shape[1:]) != expected:
            raise ValueError(
                f"slices of {tuple(slices.shape[1:])} came (channels, height, width), the encoder "
                f"takes {expected}; set slice_input.size of the data recipe to {self.image_size}"
            )
        patches = self.patch_embed(slices)
        cls_token = self.cls_token.to(patches.dtype).expand(len(patches), 1, -1)
        tokens = torch.cat((cls_token, patches), dim=1) + self.pos_embed
        last = len(self.blocks) - 1
        for number, block in enumerate(self.blocks):
            tokens = block(tokens, only_first=number == last)
        return self.norm(tokens[:, 0])
