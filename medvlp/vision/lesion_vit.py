"""HCL-AL's transformer over the patch around a lesion."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from medvlp.layers.attention import Attention, AttentionBackend
from medvlp.layers.drop_path import BranchDropout
from medvlp.layers.patch_embed import PatchEmbed3D
from medvlp.vision.volume_vit import VolumeViT


class LesionViT(VolumeViT):
    """A plain 3D ViT whose class token has a position too; patches have axes x, y, z.

    Args:
        image_size: Voxels of a patch around a lesion, along x, y, z.
        patch_size: Voxels of a token; must divide it.
        width: Of the tokens.
        depth: Number of blocks.
        num_heads: Attention heads.
        mlp_dim: Hidden width of the MLPs.
        in_channels: Channels: CT, PET, lesion.
        dropout: Probability in training, at the end of each branch of a block.
        attention: Backend, see `medvlp.layers.attention`.
        activation_checkpointing: Recompute the blocks in the backward pass to save memory.

    Raises:
        ValueError: If the patch does not divide the volume.

    Reference: HCL-AL (Gao et al., IEEE TMI 2025, doi 10.1109/TMI.2025.3599197); its code,
    github.com/HerrBaum-YR/HCL-AL.
    """

    def __init__(
        self,
        image_size: Sequence[int],
        patch_size: Sequence[int] = (16, 16, 16),
        *,
        width: int = 768,
        depth: int = 12,
        num_heads: int = 12,
        mlp_dim: int = 3072,
        in_channels: int = 3,
        dropout: float = 0.1,
        attention: AttentionBackend = "sdpa",
        activation_checkpointing: bool = False,
    ) -> None:
        super().__init__(
            image_size,
            patch_size,
            width=width,
            depth=depth,
            num_heads=num_heads,
            mlp_dim=mlp_dim,
            in_channels=in_channels,
            attention=attention,
            activation_checkpointing=activation_checkpointing,
        )
        self.patch_embed = PatchEmbed3D(in_channels, self.patch_size, width)
        self.cls_token = nn.Parameter(torch.randn(1, 1, width))  # as published, and the positions
        self.pos_embed = nn.Parameter(torch.randn(1, 1 + self.num_patches, width))
        for block in self.blocks:
            block.attn = Attention(width, num_heads, backend=attention)
            block.drop_path = BranchDropout(dropout)

    def _place(self, patches: Tensor) -> Tensor:
        return patches + self.pos_embed[:, 1:]

    def _prepend_class(self, patches: Float[Tensor, "n t e"]) -> Float[Tensor, "n u e"]:
        cls_token = (self.cls_token + self.pos_embed[:, :1]).to(patches.dtype)
        return torch.cat((cls_token.expand(len(patches), 1, -1), patches), dim=1)
