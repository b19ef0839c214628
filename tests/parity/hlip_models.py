"""Builds HLIP models from the published terms of a case's config, and runs trunks on inputs."""

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from medvlp.layers.patch_embed import PatchEmbed3D
from medvlp.layers.pooling import ClsPooling, DualTokenPooling
from medvlp.layers.pos_embed import ScanPositions
from medvlp.models.two_tower import TwoTower
from medvlp.text.hf_encoder import Freeze, HFEncoder
from medvlp.vision.hierarchical_vit import HierarchicalViT

Rule = Literal["mode", "published"]


def levels_of(config: Mapping[str, Any]) -> list[str]:
    """Spell the three index lists out as one level per block."""
    named = {
        index: level
        for level in ("slice", "scan", "study")
        for index in config.get(f"{level}_attn_indexes") or ()
    }
    return [named[index] for index in range(config["depth"])]


def build_trunk(config: Mapping[str, Any], *, rule: Rule = "mode") -> HierarchicalViT:
    """Build an image tower from published keys (img_size, patch_size, ..._attn_indexes, ...)."""
    size, patch = config["img_size"], config["patch_size"]
    embed = PatchEmbed3D(config.get("in_chans", 1), tuple(patch), config["embed_dim"])
    grid = tuple(s // p for s, p in zip(size, patch, strict=True))
    return HierarchicalViT(
        embed,
        (grid[0], grid[1], grid[2]),
        levels=levels_of(config),
        num_heads=config["num_heads"],
        mlp_ratio=float(config.get("mlp_ratio", 4)),
        num_register_tokens=config.get("reg_tokens") or 0,
        scan_positions=ScanPositions(config.get("max_num_scans", 1), rule=rule),
        patch_drop_prob=config.get("patch_drop_rate") or 0.0,
        pooling=DualTokenPooling() if config.get("global_pool_dinotxt") else ClsPooling(),
    ).eval()


def build_two_tower(
    config: Mapping[str, Any],
    *,
    rule: Rule = "mode",
    freeze: Freeze = "none",
    logit_scale_init: float = 2.6592600,
    logit_bias_init: float | None = None,
) -> TwoTower:
    """Build a two-tower model from the published keys embed_dim, vision and text."""
    vision = build_trunk(config["vision"], rule=rule)
    text = HFEncoder(config["text"], freeze=freeze)
    width = vision.embed_dim * (2 if config["vision"].get("global_pool_dinotxt") else 1)
    return TwoTower(
        vision,
        text,
        image_projection=nn.Linear(width, config["embed_dim"], bias=False),
        text_projection=nn.Linear(text.width, config["embed_dim"], bias=False),
        logit_scale_init=logit_scale_init,
        logit_bias_init=logit_bias_init,
    ).eval()


def packed(studies: Tensor) -> tuple[Tensor, Tensor]:
    """Turn (b s c d h w) into scans in a row and their number per study."""
    return studies.flatten(0, 1), torch.full((studies.shape[0],), studies.shape[1])


def record(module: nn.Module) -> list[Tensor]:
    """Keep every output of a module."""
    outputs: list[Tensor] = []
    module.register_forward_hook(lambda _module, _inputs, output: outputs.append(output.clone()))
    return outputs


def record_input(module: nn.Module) -> list[Tensor]:
    """Keep every first input of a module."""
    seen: list[Tensor] = []
    module.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0].clone()))
    return seen
