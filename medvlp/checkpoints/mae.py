"""Start the image tower from a 2D masked autoencoder (MAE)."""

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
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
from medvlp.layers.pos_embed import inflate_patch_weight, inflate_pos_embed, spread_pos_embed
from medvlp.types import Size3D
from medvlp.vision.anatomy_vit import AnatomyViT
from medvlp.vision.hierarchical_vit import HierarchicalViT

_OWN_NAMES = RuleTable((Rule("{rest}", "{rest}"),))
_NOT_IN_2D = ("scan_pos_embed", "reg_token")
# What fVLM's code leaves out by name, beside the patch embedding.
_ENCODER_NAMES = replace(
    _OWN_NAMES, ignored={r"decoder.*|mask_token|cls_token": lambda tensor: True}
)
_OWN_START = ("patch_embed.proj.weight", "patch_embed.proj.bias")


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
    first, table = _split_positions(inflated["pos_embed"])
    if len(first):
        inflated["cls_token"] = inflated["cls_token"] + first
    inflated["pos_embed"] = inflate_pos_embed(table, grid)
    weight = inflated["patch_embed.proj.weight"]
    inflated["patch_embed.proj.weight"] = inflate_patch_weight(weight, patch_size)
    return inflated


def spread_mae(weights: Mapping[str, Any], grid: Size3D) -> dict[str, Tensor]:
    """Turn the weights of a 2D MAE encoder into those of a 3D tower, as fVLM's code does.

    The position table is repeated over the depth, without the row of the class token; the patch
    embedding is left out; all else is taken by name.

    Args:
        weights: 2D weights in the usual ViT vocabulary.
        grid: Token grid of the 3D tower's position table.

    Raises:
        ValueError: If the weights have no position table of a square image.
    """
    spread = {n: t for n, t in unwrap(weights).items() if not n.startswith("patch_embed.")}
    if "pos_embed" not in spread:
        raise ValueError(
            "pos_embed is missing: these are not the weights of a 2D ViT encoder; give a MAE "
            "checkpoint such as mae_pretrain_vit_base.pth"
        )
    _, table = _split_positions(spread["pos_embed"])
    spread["pos_embed"] = spread_pos_embed(table, grid).flatten(1, 3)
    return spread


def _split_positions(positions: Tensor) -> tuple[Tensor, Tensor]:
    """Divide a table (1 n c) into the rows of the class token, one or none, and of the plane."""
    table = positions[0]
    num_first = int(math.isqrt(len(table)) ** 2 != len(table))
    first, table = table[:num_first], table[num_first:]
    if math.isqrt(len(table)) ** 2 != len(table):
        raise ValueError(
            f"{len(table)} positions do not form a square grid; give weights of a square image "
            "with at most one class position"
        )
    return first, table


def init_from_mae(
    vision: HierarchicalViT | AnatomyViT, weights: str | Path | Mapping[str, Any]
) -> LoadReport:
    """Fill an image tower from a 2D MAE, by the rule of its published code.

    Scan positions and registers of a `HierarchicalViT` keep their own start, and the patch
    embedding of an `AnatomyViT`.

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
    with torch.no_grad():
        if isinstance(vision, AnatomyViT):
            inflated, names, own = spread_mae(source, vision.grid), _ENCODER_NAMES, _OWN_START
        else:
            _, d, h, w, _ = vision.pos_embed.shape
            inflated = inflate_mae(source, vision.patch_embed.patch_size, (d, h, w))
            names, own = _OWN_NAMES, _NOT_IN_2D
    _require_fit(compare(vision, inflated, names)[1], own)
    return load_published(vision, inflated, names, strict=False)


def _require_fit(report: LoadReport, own: Sequence[str]) -> None:
    """Refuse weights that leave more without a value than the tower's own parts."""
    if report.mismatched or set(report.missing) - set(own):
        raise CheckpointMismatchError(report)
    if report.unexpected:
        warnings.warn(
            f"{len(report.unexpected)} tensors of the 2D weights are not used: "
            f"{', '.join(report.unexpected[:5])}",
            stacklevel=3,
        )
