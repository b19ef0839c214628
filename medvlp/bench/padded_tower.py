"""The usual way to batch studies of unequal numbers of scans, to measure ours against.

Every study is padded with empty scans to the longest, and a mask keeps attention over a whole
study off them. Blocks and weights are those of the tower that it wraps.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from medvlp.layers.block import Block
from medvlp.layers.pooling import ClsPooling
from medvlp.vision.hierarchical_vit import HierarchicalViT
from medvlp.vision.regroup import Level, cut, merge


class PaddedTower(nn.Module):
    """Run a hierarchical ViT on padded studies, in evaluation.

    Args:
        tower: Whose layers are used; must pool by the class token alone.

    Raises:
        ValueError: If the tower pools otherwise or has register tokens.
    """

    def __init__(self, tower: HierarchicalViT) -> None:
        super().__init__()
        if not isinstance(tower.pooling, ClsPooling) or tower.num_prefix != 1:
            raise ValueError(
                f"{type(tower.pooling).__name__} over {tower.num_prefix} prefix tokens: the padded "
                "baseline knows the class token only; choose a tower of HLIP v1"
            )
        self.tower = tower

    def forward(
        self, image: Float[Tensor, "b s c d h w"], present: Bool[Tensor, "b s"]
    ) -> Float[Tensor, "b f"]:
        """Return the features of each study.

        Args:
            image: Studies padded to the same number of scans.
            present: Which of the scans are real.
        """
        num_studies, num_scans = present.shape
        patches = self.tower.patch_embed(image.flatten(0, 1)) + self.tower.pos_embed
        if self.tower.scan_positions.has_table:
            rows = self.tower.scan_pos_embed[0, :num_scans].repeat(num_studies, 1)
            patches = patches + rows[:, None, None, None]
        scans = patches.flatten(1, 3)
        tokens = torch.cat((self.tower.cls_token.expand(len(scans), -1, -1), scans), dim=1)
        mask = _mask_of_tokens(present, scans.shape[1])
        before: Level = "scan"
        for block, level in zip(self.tower.blocks, self.tower.levels, strict=True):
            assert isinstance(block, Block)
            tokens = _regroup(tokens, before, level, present, patches.shape[1])
            tokens = _run(block, tokens, mask if level == "study" else None)
            before = level
        tokens = _regroup(tokens, before, "study", present, patches.shape[1])
        return self.tower.norm(tokens)[:, 0]


def _mask_of_tokens(present: Bool[Tensor, "b s"], tokens_per_scan: int) -> Bool[Tensor, "b 1 1 n"]:
    """Say which tokens of a padded study may be looked at: the class token and real scans."""
    patches = present.repeat_interleave(tokens_per_scan, dim=1)
    return F.pad(patches, (1, 0), value=True)[:, None, None]


def _regroup(
    tokens: Tensor, before: Level, after: Level, present: Bool[Tensor, "b s"], num_slices: int
) -> Tensor:
    """Change the level; the class token of a study is the mean over its real children."""
    if before == after:
        return tokens
    per_study = present.shape[1] * (num_slices if "slice" in (before, after) else 1)
    if after == "study":
        merged = merge(tokens, per_study, 1)
        children = tokens[:, 0].unflatten(0, (-1, per_study))
        weight = present.repeat_interleave(per_study // present.shape[1], dim=1)[..., None]
        mean = (children * weight).sum(1) / weight.sum(1)
        return torch.cat((mean[:, None], merged[:, 1:]), dim=1)
    if before == "study":
        return cut(tokens, per_study, 1)
    return (merge if after == "scan" else cut)(tokens, num_slices, 1)


def _run(block: Block, tokens: Tensor, mask: Tensor | None) -> Tensor:
    """Apply a block with masked attention."""
    qkv = block.attn.qkv(block.norm1(tokens)).unflatten(-1, (3, block.attn.num_heads, -1))
    q, k, v = qkv.permute(2, 0, 3, 1, 4)
    mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    tokens = tokens + block.attn.proj(mixed.transpose(1, 2).flatten(-2))
    return tokens + block.mlp(block.norm2(tokens))
