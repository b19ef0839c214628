"""fVLM: the image tower, its start from a 2D MAE, and the text tower."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medvlp.checkpoints.adapter import load_published, to_published
from medvlp.checkpoints.fvlm import FVLM_TABLE, VISION
from medvlp.checkpoints.mae import init_from_mae
from medvlp.heads.anatomy_pool import AnatomyPool
from medvlp.layers.patch_embed import PatchEmbed3D
from medvlp.models.fvlm import FVLM
from medvlp.text.hf_encoder import HFEncoder
from medvlp.text.tokenizers import WordPieceTokenizer
from medvlp.types import Tokens
from medvlp.vision.anatomy_vit import AnatomyViT

from .registry import Case, handles

POSITION_GRID = (7, 16, 11)  # of every published file, whatever the input size
POOL_HEADS = 4  # of the published model, whatever its width


def build_vision(config: Mapping[str, Any]) -> AnatomyViT:
    """Build an image tower from the published keys patch_size, hidden_size, mlp_dim, ..."""
    width = config["hidden_size"]
    return AnatomyViT(
        PatchEmbed3D(config.get("in_channels", 1), config["patch_size"], width),
        POSITION_GRID,
        depth=config["num_layers"],
        num_heads=config["num_heads"],
        mlp_ratio=(config["mlp_dim"] + 0.5) / width,  # the tower rounds down
    ).eval()


def build_text(config: Mapping[str, Any], vocab_size: int) -> HFEncoder:
    """Build a text tower from the published keys hidden, layers, heads, ..."""
    bert = {
        "model_type": "bert",
        "vocab_size": vocab_size,
        "hidden_size": config["hidden"],
        "num_hidden_layers": config["layers"],
        "num_attention_heads": config["heads"],
        "intermediate_size": config["intermediate"],
        "max_position_embeddings": config["max_position"],
        "layer_norm_eps": config.get("eps", 1e-12),
    }
    return HFEncoder(bert, token_types=False).eval()


def build_fvlm(config: Mapping[str, Any], weights: Mapping[str, Tensor]) -> FVLM:
    """Build the whole model of a case with the keys vis, bert, vocab, organs, and load it."""
    vision = build_vision(config["vis"])
    text = build_text(config["bert"], len(config["vocab"]))
    embed_dim = len(weights["text_proj.bias"])
    pooling = AnatomyPool(
        config["organs"], vision.embed_dim, embed_dim=embed_dim, num_heads=POOL_HEADS
    )
    model = FVLM(
        vision, text, pooling=pooling, text_projection=nn.Linear(text.width, embed_dim)
    ).eval()
    assert load_published(model, weights, FVLM_TABLE).complete
    return model


def build_tokenizer(config: Mapping[str, Any], folder: str) -> WordPieceTokenizer:
    """Build the tokenizer of a case with the keys vocab and max_txt_len."""
    vocab = Path(folder) / "vocab.txt"
    vocab.write_text("\n".join(config["vocab"]), encoding="utf-8")
    tokenizer = WordPieceTokenizer(vocab, config["max_txt_len"], padding="max_length")
    tokenizer.num_truncated = 1  # cuts are expected here, do not warn of them
    return tokenizer


@handles("fvlm", "image_tower")
@torch.no_grad()
def image_tower(case: Case) -> None:
    vision = build_vision(case.config)
    assert load_published(vision, case.state_dict, VISION).complete
    exported = to_published(vision.state_dict(), VISION)
    assert all(torch.equal(exported[name], case.state_dict[name]) for name in case.state_dict)
    image = case.inputs["image_u8"].float() / 255
    ours = {"tokens_after_patch_embedding": vision.embed(image)}
    levels = vision(image, torch.ones(len(image), dtype=torch.int64))
    ours |= {f"hidden_{number}": level for number, level in enumerate(levels.unbind(1))}
    for name, actual in ours.items():
        case.assert_close(name, actual, case.outputs[name])
    case.assert_all_compared()


@handles("fvlm", "text_tower")
@torch.no_grad()
def text_tower(case: Case) -> None:
    config = case.config
    text = build_text(config["bert"], len(config["vocab"]))
    head = nn.Linear(text.width, len(case.state_dict["text_proj.bias"]))
    part = nn.ModuleDict({"text": text, "text_projection": head}).eval()
    assert load_published(part, case.state_dict, FVLM_TABLE).complete
    with tempfile.TemporaryDirectory() as folder:
        ids, mask = build_tokenizer(config, folder)(config["texts"])
    for name, actual in (("input_ids", ids), ("attention_mask", mask)):
        assert torch.equal(actual, case.inputs[name].to(actual.dtype)), f"{case.name}: {name}"
    hidden: list[Tensor] = []
    text.encoder.register_forward_hook(
        lambda _module, _inputs, output: hidden.append(output.last_hidden_state)
    )
    features = F.normalize(head(text(Tokens(ids, mask))), dim=-1)
    case.assert_close("last_hidden_state", hidden[0], case.outputs["last_hidden_state"])
    case.assert_close("text_feat", features, case.outputs["text_feat"])
    case.assert_all_compared()


@handles("fvlm", "mae_init")
@torch.no_grad()
def mae_init(case: Case) -> None:
    config = case.config
    vision = AnatomyViT(
        PatchEmbed3D(1, (2, 2, 4), config["hidden"]),
        config["grid"],
        depth=config["depth"],
        num_heads=config["heads"],
        mlp_ratio=(config["mlp"] + 0.5) / config["hidden"],
    )
    before = vision.patch_embed.proj.weight.clone()
    report = init_from_mae(vision, case.state_dict)
    assert report.missing == ["patch_embed.proj.bias", "patch_embed.proj.weight"]
    assert not report.unexpected and torch.equal(vision.patch_embed.proj.weight, before)
    exported = to_published(vision.state_dict(), VISION)
    for name, expected in case.outputs.items():
        case.assert_close(name, exported[name], expected, atol=1e-6)
    case.assert_all_compared()
