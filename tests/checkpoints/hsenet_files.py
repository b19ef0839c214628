"""Small networks of HSENet, and their files as published."""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from medvlp.checkpoints.adapter import to_published
from medvlp.checkpoints.hsenet_rules import CLIP, TEACHER_PREFIX, TOWERS
from medvlp.models.hsenet_clip import HSENetCLIP
from medvlp.vision.slice_encoder import SliceEncoder
from tests.systems.dual_stage_runs import make_clip, make_stage2

_TOWER = ["image_size=[4,8,8]", "patch_size=[2,4,4]", "width=12", "depth=2", "num_heads=2"]
_TOWER += ["mlp_dim=24"]
_TEXT = ["vocab_size=20", "hidden_size=6", "num_hidden_layers=1", "num_attention_heads=2"]
_TEXT += ["intermediate_size=8", "max_position_embeddings=12"]
_CLIP = [
    *(f"model.vision.{size}" for size in _TOWER),
    *(f"model.text.config.{size}" for size in _TEXT),
    *("model.image_projection.in_features=12", "model.image_projection.out_features=8"),
    *("model.text_projection.in_features=6", "model.text_projection.out_features=8"),
]
_SLICES = [*_CLIP, "model.vision.slice_dim=5"]
# Options of the command line for each kind of file.
TINY = {
    "stage 1": ["--model", "hsenet_stage1", *_CLIP],
    "stage 2": ["--model", "hsenet_stage2", "+loss=clip_relation", *_SLICES],
    "stage 2 without its teacher": ["--model", "hsenet_stage2", *_SLICES],
    "towers": [
        *("--model", "hsenet_towers", "model.modules.guided_vision.slice_dim=5"),
        *(
            f"model.modules.{tower}.{size}"
            for tower in ("vision", "guided_vision")
            for size in _TOWER
        ),
    ],
    "slices": [
        *("--model", "biomedclip_slices", "model.image_size=16", "model.patch_size=8"),
        *("model.width=12", "model.depth=2", "model.num_heads=3", "model.mlp_dim=20"),
    ],
}
CONFIG = {
    "architectures": ["M3DCLIP"],
    "model_type": "m3d_clip_stage2",
    "language_model_name_or_path": "/home/someone/models/bert-base-uncased",
    "pretrained_model": "/home/someone/stage1",
    "hidden_size": 768,
}


def published_clip(model: HSENetCLIP) -> dict[str, Tensor]:
    """Give a model its published names, and BERT's pooler, which no model of ours has."""
    weights = {name: t.clone() for name, t in to_published(model.state_dict(), CLIP).items()}
    width = model.text_projection.get_parameter("weight").shape[1]
    for prefix in ["", TEACHER_PREFIX] if model.teacher is not None else [""]:
        weights[f"{prefix}language_encoder.pooler.dense.weight"] = torch.randn(width, width)
        weights[f"{prefix}language_encoder.pooler.dense.bias"] = torch.randn(width)
    return weights


def published(kind: str) -> dict[str, Tensor]:
    """Make the weights of a kind of `TINY`."""
    if kind == "towers":
        stage2 = make_stage2()
        assert stage2.teacher is not None
        pair = nn.ModuleDict({"vision": stage2.teacher.vision, "guided_vision": stage2.vision})
        return {name: t.clone() for name, t in to_published(pair.state_dict(), TOWERS).items()}
    if kind == "slices":
        torch.manual_seed(3)
        return SliceEncoder(16, 8, width=12, depth=2, num_heads=3, mlp_dim=20).state_dict()
    return published_clip(make_clip() if kind == "stage 1" else make_stage2())


def write_folder(folder: Path, weights: Mapping[str, Tensor], form: str = "model.safetensors"):
    """Write a folder as huggingface.co has it; `form` names its weights."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "training_args.bin").write_bytes(b"\x80never read")
    if form.endswith(".index.json"):
        suffix = ".safetensors" if "safetensors" in form else ".bin"
        parts = {f"part-{k}{suffix}": sorted(weights)[k::2] for k in (0, 1)}
        for part, names in parts.items():
            _save({name: weights[name] for name in names}, folder / part)
        index = {name: part for part, names in parts.items() for name in names}
        (folder / form).write_text(json.dumps({"metadata": {}, "weight_map": index}))
    else:
        _save(dict(weights), folder / form)
    return folder


def _save(weights: dict[str, Tensor], path: Path) -> None:
    save_file(weights, path) if path.suffix == ".safetensors" else torch.save(weights, path)
