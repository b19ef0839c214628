"""Start the image tower from a 2D masked autoencoder (MAE)."""

import math
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from medvlp.checkpoints.adapter import (
    CheckpointMismatchError,
    LoadReport,
    Rule,
    RuleTable,
    compare,
    load_published,
)
from medvlp.checkpoints.files import read_weights, unwrap
from medvlp.layers.patch_embed import PatchEmbed3D
from medvlp.layers.pos_embed import inflate_patch_weight, inflate_pos_embed
from medvlp.types import Size3D
from medvlp.vision.hierarchical_vit import HierarchicalViT

_OWN_NAMES = RuleTable((Rule("{rest}", "{rest}"),))
_NOT_IN_2D = ("scan_pos_embed", "reg_token")


def inflate_mae(weights: Mapping[str, Any], patch_size: Size3D, grid: Size3D) -> dict[str, Tensor]:
    """Turn the weights of a 2D MAE encoder into those of a 3D tower.

    The position of the class token is added to the class token; the patch embedding and the
    position table gain a depth axis; all else is taken by name.

    Args:
        weights: 2D weights in the usual ViT vocabulary.
        patch_size: Patch of the 3D tower, in voxels.
        grid: Token grid of the 3D tower's position table.

    Raises:
        ValueError: If the weights have no patch embedding or position table of a square image.

    Reference: specification of HLIP, its initialisation from MAE ViT-B.
    """
    inflated = dict(unwrap(weights))
    for name in ("pos_embed", "cls_token", "patch_embed.proj.weight"):
        if name not in inflated:
            raise ValueError(
                f"{name} is missing: these are not the weights of a 2D ViT encoder; give a MAE "
                "checkpoint such as that of timm's vit_base_patch16_224.mae"
            )
    table = inflated["pos_embed"][0]
    if math.isqrt(len(table)) ** 2 != len(table):
        inflated["cls_token"] = inflated["cls_token"] + table[:1]
        table = table[1:]
    if math.isqrt(len(table)) ** 2 != len(table):
        raise ValueError(
            f"{len(table)} positions do not form a square grid; give weights of a square image "
            "with at most one class position"
        )
    inflated["pos_embed"] = inflate_pos_embed(table, grid)
    weight = inflated["patch_embed.proj.weight"]
    inflated["patch_embed.proj.weight"] = inflate_patch_weight(weight, patch_size)
    return inflated


def init_from_mae(vision: HierarchicalViT, weights: str | Path | Mapping[str, Any]) -> LoadReport:
    """Fill an image tower from a 2D MAE; scan positions and registers keep their own start.

    Args:
        vision: Tower with a plain patch embedding.
        weights: Path of the 2D weights, or its content.

    Returns:
        What was loaded. Weights that the tower cannot use, as those of a decoder, are
        `unexpected` there and counted in a warning.

    Raises:
        CheckpointMismatchError: If anything else is missing or has another shape.
        ValueError: If the weights or the tower do not suit.
    """
    if not isinstance(vision.patch_embed, PatchEmbed3D):
        raise ValueError(
            f"MAE weights fit a plain patch embedding, the tower has "
            f"{type(vision.patch_embed).__name__}; use PatchEmbed3D"
        )
    source = read_weights(weights) if isinstance(weights, (str, Path)) else weights
    _, depth, height, width, _ = vision.pos_embed.shape
    with torch.no_grad():
        inflated = inflate_mae(source, vision.patch_embed.patch_size, (depth, height, width))
    _, report = compare(vision, inflated, _OWN_NAMES)
    if report.mismatched or set(report.missing) - set(_NOT_IN_2D):
        raise CheckpointMismatchError(report)
    if report.unexpected:
        warnings.warn(
            f"{len(report.unexpected)} tensors of the 2D weights are not used: "
            f"{', '.join(report.unexpected[:5])}",
            stacklevel=2,
        )
    return load_published(vision, inflated, _OWN_NAMES, strict=False)
