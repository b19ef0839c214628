"""Tiny models of every published kind, and their files in every published layout."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from medvlp.checkpoints.hlip import export_hlip
from medvlp.layers.block import Block
from medvlp.layers.patch_embed import PatchEmbed3D
from medvlp.layers.pooling import DualTokenPooling
from medvlp.layers.pos_embed import ScanPositions
from medvlp.models.two_tower import TwoTower
from medvlp.text.hf_encoder import HFEncoder
from medvlp.vision.hierarchical_vit import HierarchicalViT

WIDTH = 12
TEXT: dict[str, Any] = {
    "model_type": "bert",
    "vocab_size": 20,
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 12,
}
LAYOUTS = ("bare", "module", "nested", "module-nested", "model", "safetensors")


def make_model(
    *,
    patch: tuple[int, int, int] = (2, 4, 4),
    num_scans: int = 1,
    dual: bool = False,
    sigmoid: bool = False,
    text: Mapping[str, Any] = TEXT,
    seed: int = 0,
    **text_options: Any,
) -> TwoTower:
    torch.manual_seed(seed)
    vision = HierarchicalViT(
        PatchEmbed3D(1, patch, WIDTH),
        (2, 2, 2),
        levels=["scan", "study"],
        num_heads=2,
        num_register_tokens=int(dual),
        scan_positions=ScanPositions(num_scans),
        pooling=DualTokenPooling() if dual else None,
    )
    encoder = HFEncoder(text, **text_options)
    width = 2 * WIDTH if dual else WIDTH
    return TwoTower(
        vision,
        encoder,
        image_projection=nn.Linear(width, 8, bias=False),
        text_projection=nn.Linear(encoder.width, 8, bias=False),
        logit_bias_init=-10.0 if sigmoid else None,
        second_logit_scale_init=2.5 if dual else None,
    )


def published(model: TwoTower) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in export_hlip(model).items()}


def write(folder: Path, weights: Mapping[str, Tensor], layout: str = "module-nested") -> Path:
    weights = dict(weights)
    if layout == "safetensors":
        path = folder / "weights.safetensors"
        save_file(weights, path)
        return path
    path = folder / f"{layout}.pt"
    if layout.startswith("module"):
        weights = {f"module.{name}": tensor for name, tensor in weights.items()}
    content: dict[str, Any] = weights
    if layout.endswith("nested"):  # as the published code writes it
        content = {"epoch": 3, "name": "run", "state_dict": weights, "optimizer": {"state": {}}}
    if layout == "model":
        content = {"model": weights}
    torch.save(content, path)
    return path


def make_vit(width: int, *, depth: int, patch: int, positions: int) -> dict[str, Tensor]:
    """Make the weights of a 2D ViT encoder in the usual vocabulary."""
    torch.manual_seed(5)
    blocks = nn.ModuleList(Block(width, 2) for _ in range(depth))
    weights = {f"blocks.{name}": torch.randn_like(t) for name, t in blocks.state_dict().items()}
    return weights | {
        "cls_token": torch.randn(1, 1, width),
        "pos_embed": torch.randn(1, positions, width),
        "patch_embed.proj.weight": torch.randn(width, 3, patch, patch),
        "patch_embed.proj.bias": torch.randn(width),
        "norm.weight": torch.randn(width),
        "norm.bias": torch.randn(width),
    }
