"""Config of a model that sees and writes, with low-rank layers over a base of its own on disk."""

from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate

from medvlp.models.hsenet_vlm import HSENetVLM
from medvlp.text.language_model import LanguageModel
from medvlp.vision.slice_guided_vit import SliceGuidedViT
from medvlp.vision.volume_vit import VolumeViT
from tests.models.tiny_vlm import LLM, PATCH, SIZE, WORDS

VOCABULARY = len(WORDS) + 4
LORA = {"_target_": "medvlp.text.lora.LoRA", "rank": 2, "alpha": 4, "targets": None}


def vlm_tree(base: Path | None, lora: dict[str, Any] | None = LORA) -> dict[str, Any]:
    tower = {"image_size": list(SIZE), "patch_size": list(PATCH)}
    tower |= {"width": 8, "depth": 1, "num_heads": 2, "mlp_dim": 12}
    packer = {"_target_": "medvlp.heads.spatial_packer.SpatialPacker", "dim": 8, "out_dim": 16}
    packer |= {"kernel": [2, 1, 2], "grid": [2, 2, 2]}
    guided = {"_target_": f"{SliceGuidedViT.__module__}.SliceGuidedViT", "slice_dim": 6}
    return {
        "_target_": "medvlp.models.hsenet_vlm.HSENetVLM",
        "vision": {"_target_": f"{VolumeViT.__module__}.VolumeViT"} | tower,
        "guided_vision": guided | tower,
        "packer": packer,
        "guided_packer": dict(packer),
        "language": {
            "_target_": "medvlp.text.language_model.LanguageModel",
            "config": LLM | {"vocab_size": VOCABULARY + 5},
            "pretrained": None if base is None else str(base),
            "vocab_size": VOCABULARY,  # cut, as Phi-4-mini's
            "num_added_tokens": 4,
            "lora": lora,
        },
    }


def write_base(folder: Path) -> Path:
    """Write a language model as the hub has it."""
    torch.manual_seed(5)
    LanguageModel(LLM | {"vocab_size": VOCABULARY + 5}).decoder.save_pretrained(folder)
    return folder


def make_trained(base: Path | None, lora: dict[str, Any] | None = LORA) -> HSENetVLM:
    """Build a model none of whose parts is at its start."""
    torch.manual_seed(6)
    model: HSENetVLM = instantiate(vlm_tree(base, lora), _convert_="all")
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += 0.1 * torch.randn_like(parameter)
    return model.eval()


def logits_of(model: HSENetVLM) -> torch.Tensor:
    """Score the next words of a fixed text about a fixed volume."""
    generator = torch.Generator().manual_seed(7)
    image = torch.randn(2, 1, *SIZE, generator=generator)
    slices = torch.randn(2, 3, 6, generator=generator)
    ids = torch.arange(20).reshape(2, 10) % len(WORDS)
    with torch.no_grad():
        packed = model.pack(model.look(image, torch.ones(2).long(), slices))
        mask = torch.ones_like(ids).bool()
        return model.language(model.merge(model.language.embed(ids), packed, mask), mask)
