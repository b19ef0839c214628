"""Tiny models of every published kind, and their files in every published layout."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from medvlp.checkpoints.adapter import to_published
from medvlp.checkpoints.hlip import export_hlip
from medvlp.checkpoints.unimed_clip import UNIMED_CLIP
from medvlp.layers.block import Block
from medvlp.layers.mlp import MlpProjection
from medvlp.layers.patch_embed import PatchEmbed3D
from medvlp.layers.pooling import DualTokenPooling
from medvlp.layers.pos_embed import ScanPositions
from medvlp.models.two_tower import TwoTower
from medvlp.text.hf_encoder import HFEncoder
from medvlp.vision.hierarchical_vit import HierarchicalViT
from medvlp.vision.image_vit import ImageViT

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


def make_unimed_clip(
    *,
    image_size: int = 32,
    patch_size: int = 8,
    width: int = 64,
    embed_dim: int = 12,
    text: Mapping[str, Any] = TEXT,
    seed: int = 0,
    **options: Any,
) -> TwoTower:
    """Make a small UniMed-CLIP; `options` are those of `TwoTower`."""
    torch.manual_seed(seed)
    encoder = HFEncoder(text)
    hidden = (encoder.width + embed_dim) // 2
    return TwoTower(
        ImageViT(image_size, patch_size, width=width, depth=2, num_heads=width // 64),
        encoder,
        image_projection=nn.Linear(width, embed_dim, bias=False),
        text_projection=MlpProjection(encoder.width, hidden, embed_dim),
        **options,
    )


def published_unimed_clip(model: TwoTower) -> dict[str, Tensor]:
    """Give a small UniMed-CLIP its published names."""
    exported = to_published(model.state_dict(), UNIMED_CLIP)
    return {name: tensor.clone() for name, tensor in exported.items()}


def write_released(folder: Path, weights: Mapping[str, Tensor], *, numpy: int = 2) -> Path:
    """Write a training checkpoint as UniMed-CLIP released them: its rate is a NumPy number.

    Args:
        numpy: Major version whose name of that number's constructor the file holds.
    """
    moments = {"step": 7, "exp_avg": torch.zeros(2), "exp_avg_sq": torch.zeros(2)}
    group = {"lr": np.float64(3e-4), "betas": (0.9, 0.98), "params": [0]}
    content = {
        "epoch": 10,
        "name": "b16_400m",
        "state_dict": {f"module.{key}": tensor for key, tensor in weights.items()},
        "optimizer": {"state": {0: moments}, "param_groups": [group]},
        "scaler": {"scale": 65536.0, "_growth_tracker": 0},
    }
    path = folder / "released.pt"
    torch.save(content, path, _use_new_zipfile_serialization=numpy > 1)
    if numpy == 1:
        modern = path.read_bytes()
        assert modern.count(b"numpy._core.multiarray") == 1
        path.write_bytes(modern.replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    return path


def make_metaclip(
    *, image_size: int = 32, patch_size: int = 8, width: int = 64, embed_dim: int = 12
) -> dict[str, Tensor]:
    """Make the weights of a small MetaCLIP: the same image tower beside CLIP's own text tower."""
    sizes = {"image_size": image_size, "patch_size": patch_size, "width": width}
    source = make_unimed_clip(**sizes, embed_dim=embed_dim, seed=3, logit_scale_init=4.5)
    weights = published_unimed_clip(source)
    return {n: t for n, t in weights.items() if not n.startswith("text_encoder.")} | {
        "positional_embedding": torch.randn(77, 8),
        "token_embedding.weight": torch.randn(20, 8),
        "transformer.resblocks.0.ln_1.weight": torch.randn(8),
        "transformer.resblocks.0.attn.in_proj_weight": torch.randn(24, 8),
        "ln_final.weight": torch.randn(8),
        "ln_final.bias": torch.randn(8),
        "text_projection": torch.randn(8, embed_dim),
    }
