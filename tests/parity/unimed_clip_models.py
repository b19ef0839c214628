"""UniMed-CLIP: the towers, the whole model, its files and its tokenizer."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from medvlp.checkpoints.adapter import LoadReport, load_published, to_published
from medvlp.checkpoints.files import open_weights
from medvlp.checkpoints.systems import load_weights
from medvlp.checkpoints.unimed_clip import IMAGE_PART, UNIMED_CLIP
from medvlp.evaluation.image_text_scores import image_text_scores
from medvlp.layers.mlp import Activation, MlpProjection
from medvlp.models.two_tower import TwoTower
from medvlp.text.hf_encoder import HFEncoder
from medvlp.text.tokenizers import HFTokenizer, TextTokenizer, WordPieceTokenizer, clean
from medvlp.types import Tokens
from medvlp.vision.image_vit import ImageViT

from .hlip_models import record
from .registry import Case, handles

TOWER_ATOL = 1e-4  # the README of vision_tower: any kernel


def build_vision(
    config: Mapping[str, Any], *, size: int | None = None, activation: Activation = "quick_gelu"
) -> ImageViT:
    """Build an image tower from the published keys width, layers, patch_size, image_size."""
    return ImageViT(
        size or config["image_size"],
        config["patch_size"],
        width=config["width"],
        depth=config["layers"],
        num_heads=config.get("heads", config["width"] // 64),
        mlp_ratio=config.get("mlp_ratio", 4.0),
        activation=activation,
    )


def build_text(config: Mapping[str, Any]) -> tuple[HFEncoder, MlpProjection]:
    """Build a text tower and its head from the keys bert, proj_hidden and embed_dim."""
    text = HFEncoder({"model_type": "bert"} | config["bert"])
    return text, MlpProjection(text.width, config["proj_hidden"], config["embed_dim"])


def build_two_tower(config: Mapping[str, Any]) -> TwoTower:
    """Build the whole model from the published keys vision, bert, embed_dim, proj_hidden."""
    activation: Activation = "quick_gelu" if config["quick_gelu"] else "gelu"
    vision = build_vision(config["vision"], activation=activation)
    text, head = build_text(config)
    return TwoTower(
        vision,
        text,
        image_projection=nn.Linear(vision.embed_dim, config["embed_dim"], bias=False),
        text_projection=head,
    ).eval()


def tokens_of(input_ids: Tensor) -> Tokens:
    return Tokens(input_ids, input_ids != 0)


def ones_for(images: Tensor) -> Tensor:
    return torch.ones(len(images), dtype=torch.int64)


class ImagePart(nn.Module):
    """The image tower and its projection, under their names in the whole model."""

    def __init__(self, vision: ImageViT, embed_dim: int) -> None:
        super().__init__()
        self.vision = vision
        self.image_projection = nn.Linear(vision.embed_dim, embed_dim, bias=False)

    def load(self, weights: Mapping[str, Tensor], *, resize_positions: bool = False) -> LoadReport:
        report = load_published(self, weights, IMAGE_PART, resize_positions=resize_positions)
        assert report.complete
        return report

    def forward(self, image: Tensor) -> Tensor:
        return self.image_projection(self.vision(image, ones_for(image)))


@handles("unimed_clip", "vision_tower")
@torch.no_grad()
def vision_tower(case: Case) -> None:
    vision = build_vision(case.config, activation=case.config["activation"])
    part = ImagePart(vision, case.config["embed_dim"]).eval()
    part.load(case.state_dict)
    modules = {"after_ln_pre": vision.norm_pre, "cls_after_ln_post": vision.norm}
    modules |= {f"block_{i}": block for i, block in enumerate(vision.blocks)}
    seen = {name: record(module) for name, module in modules.items()}
    image = case.inputs["image"]
    vision.tokens(image, ones_for(image))  # all tokens of all blocks, as the golden has them
    blocks = {name: outputs[0] for name, outputs in seen.items() if outputs}
    results = {"image_features": part(image), **blocks}
    results["cls_after_ln_post"] = seen["cls_after_ln_post"][0]
    for name, actual in results.items():
        case.assert_close(name, actual, case.outputs[name], atol=TOWER_ATOL)
    case.assert_all_compared()


@handles("unimed_clip", "vision_position_resize")
@torch.no_grad()
def vision_position_resize(case: Case) -> None:
    config = case.config
    size, activation = config["image_size_model"], config["activation"]
    vision = build_vision(config, size=size, activation=activation)
    part = ImagePart(vision, config["embed_dim"]).eval()
    report = part.load(case.state_dict, resize_positions=True)
    same_size = config["image_size_checkpoint"] == size
    assert list(report.resized) == ([] if same_size else ["vision.pos_embed"])
    case.assert_close("pos_embed_resized", vision.pos_embed, case.outputs["pos_embed_resized"])
    case.assert_close("image_features", part(case.inputs["image"]), case.outputs["image_features"])
    case.assert_all_compared()


@handles("unimed_clip", "text_tower")
@torch.no_grad()
def text_tower(case: Case) -> None:
    text, head = build_text(case.config)
    part = nn.ModuleDict({"text": text, "text_projection": head}).eval()
    assert load_published(part, case.state_dict, UNIMED_CLIP).complete
    embeddings = record(text.encoder.embeddings)
    hidden: list[Tensor] = []
    text.encoder.register_forward_hook(
        lambda _module, _inputs, output: hidden.append(output.last_hidden_state)
    )
    tokens = tokens_of(case.inputs["input_ids"])
    pooled = text(tokens)
    results = {
        "embeddings": embeddings[0],
        "last_hidden_state": hidden[0] * tokens.attention_mask[:, :, None],
        "pooled_cls": pooled,
        "text_features": head(pooled),
    }
    for name, actual in results.items():
        case.assert_close(name, actual, case.outputs[name])
    case.assert_all_compared()


@handles("unimed_clip", "clip_full")
@torch.no_grad()
def clip_full(case: Case) -> None:
    model = build_two_tower(case.config)
    report = load_weights(model, case.state_dict)
    assert report.complete
    exported = to_published(model.state_dict(), UNIMED_CLIP)
    for name in case.state_dict.keys() - report.ignored:
        assert torch.equal(exported[name], case.state_dict[name])
    results = _features(model, case.inputs["image"], tokens_of(case.inputs["input_ids"]))
    tolerances = case.config.get("tolerance", {})
    for name, actual in results.items():
        atol = tolerances.get(name, tolerances.get("default"))
        case.assert_close(name, actual, case.outputs[name], atol=atol)
    case.assert_all_compared()


def _features(model: TwoTower, image: Tensor, tokens: Tokens) -> dict[str, Tensor]:
    raw_image = model.image_projection(model.vision(image, ones_for(image)))
    raw_text = model.text_projection(model.text(tokens))
    output = model(image, ones_for(image), tokens)
    images, texts = output["image_embedding"], output["text_embedding"]
    scale = output["logit_scale"].exp().squeeze(0)
    logits = scale * images @ texts.T
    current, printed = (
        image_text_scores(raw_image, raw_text, output["logit_scale"], scoring=scoring)
        for scoring in ("temperature", "raw_image")
    )
    model.clamp_logit_scale()
    return {
        "encode_image": raw_image,
        "encode_text": raw_text,
        "image_features_normalised": images,
        "text_features_normalised": texts,
        "logit_scale_exp": scale,
        "logits_per_image": logits,
        "logits_per_text": scale * texts @ images.T,
        "logit_scale_param_after_clamp": model.logit_scale.squeeze(0),
        "probs_readme_current": current,
        "probs_readme_printed_outputs": printed,
    }


@handles("unimed_clip", "checkpoint_file")
@torch.no_grad()
def checkpoint_file(case: Case) -> None:
    file = open_weights(case.path / "checkpoint.pt")
    assert not any(name.startswith("module.") for name in file.tensors)
    assert {*file.beside, *file.layout.wrappers} == set(case.config["top_level_keys"])
    assert file.beside.get("epoch") == case.config["epoch"]
    assert file.beside.get("name") == case.config["name_field"]
    model = build_two_tower(case.config)
    assert load_weights(model, case.path / "checkpoint.pt").complete
    tokens = tokens_of(case.inputs["input_ids"])
    results = _features(model, case.inputs["image"], tokens)
    for name, expected in case.outputs.items():
        case.assert_close(name, results[name], expected)
    case.assert_all_compared()


@handles("unimed_clip", "tokenizer")
def tokenizer(case: Case) -> None:
    """Compare both tokenizers: of a vocabulary file, and of a Hugging Face folder."""
    from transformers import BertTokenizer

    config, vocab = case.config, case.path / "vocab.txt"
    assert [clean(text) for text in config["texts"]] == config["cleaned"]
    with tempfile.TemporaryDirectory() as folder:
        BertTokenizer(vocab=str(vocab)).save_pretrained(folder)
        length = config["context_length"]
        tokenizers: list[TextTokenizer] = [
            WordPieceTokenizer(Path(vocab), length, padding="max_length"),
            HFTokenizer(folder, length, padding="max_length"),
        ]
        for each in tokenizers:
            each.num_truncated = 1  # cuts are expected here, do not warn of them
            ids, mask = each(config["texts"])
            case.assert_close("input_ids", ids, case.outputs["input_ids"])
            assert torch.equal(mask, ids != 0)
    case.assert_all_compared()
