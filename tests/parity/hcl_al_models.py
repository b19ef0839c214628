"""HCL-AL: image and text towers, and whole models with their gradients."""

import math
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from medvlp.checkpoints.adapter import RuleTable, load_published, to_published
from medvlp.checkpoints.hcl_al_rules import CLIP_TEXT, HCL_AL
from medvlp.losses.functional import pair_logits
from medvlp.models.hcl_al import HCLAL, match_probabilities
from medvlp.text.clip_transformer import ClipTextTransformer
from medvlp.text.hf_encoder import HFEncoder
from medvlp.types import Tokens
from medvlp.vision.lesion_vit import LesionViT
from medvlp.vision.volume_cnn import BasicNet, DenseNet, ResidualNet

from .hsenet_vision import load_both_ways
from .registry import Case, handles

FULL_SIZE_RELATIVE = 1e-4  # of its README
GRADIENT_RELATIVE = 1e-4  # of the README of the image towers and whole models


def build_vision(image: Mapping[str, Any], size: Sequence[int], channels: int) -> Any:
    """Build an image tower from the published keys; a key that is absent has upstream's value."""
    if image["type"] == "vit":
        width = image.get("emb_size", 768)
        return LesionViT(
            size,
            [image.get("patch_size", 16)] * 3,
            width=width,
            depth=image.get("depth", 12),
            num_heads=image.get("num_heads", 12),
            mlp_dim=width * image.get("ff_hidden_mult", 4),
            in_channels=channels,
            dropout=image.get("dropout", 0.1),
        )
    if image["type"] == "densenet":
        return DenseNet(
            image.get("growth_rate", 32),
            image.get("blocks", [4, 4, 4, 4]),
            in_channels=channels,
            image_size=size,
        )
    tower = {"basic": BasicNet, "residual": ResidualNet}[image["type"]]
    return tower(size, base_channels=image.get("base_channels", 16), in_channels=channels)


def vision_of(config: Mapping[str, Any]) -> Any:
    """Build the image tower of a whole model; what is not said of it is BasicNet's."""
    image = {"type": "basic", **config, **config.get("image", {})}
    return build_vision(image, config["input_size"], config["in_channels"])


def build_text(text: Mapping[str, Any]) -> ClipTextTransformer:
    """Build CLIP's text tower from the published keys."""
    return ClipTextTransformer(
        text.get("vocab_size", 49408),
        text.get("context_length", 77),
        width=text.get("width", 512),
        depth=text.get("layers", 12),
        num_heads=text.get("heads", 8),
        embed_dim=text.get("embed_dim", 512),
    )


def build_model(
    vision: nn.Module, text: nn.Module, num_features: int, *, text_fc: nn.Module | None = None
) -> HCLAL:
    """Compose a model in evaluation mode."""
    projection = nn.Linear(int(vision.embed_dim), num_features)  # pyright: ignore
    return HCLAL(vision, text, image_projection=projection, text_fc=text_fc).eval()


def tokens_of(text: Tensor) -> Tokens:
    """Take rows of ids as the published tokenizer gives them: zeros behind the end token."""
    places = torch.arange(text.shape[1])
    return Tokens(text, places <= text.argmax(dim=1, keepdim=True))


def one_each(image: Tensor) -> Tensor:
    return torch.ones(len(image), dtype=torch.int64)


def relative(expected: Tensor, share: float) -> float:
    return share * max(1.0, float(expected.abs().max()))


@handles("hcl_al", "text_encoder_clip")
@torch.no_grad()
def text_encoder_clip(case: Case) -> None:
    text = build_text(case.config).eval()
    load_both_ways(text, case.state_dict, CLIP_TEXT)
    tokens = tokens_of(case.inputs["text"])
    case.assert_close("embedding", text(tokens), case.outputs["embedding"])
    case.assert_all_compared()


class _ImageSide(nn.Module):
    """An image tower and its projection, which the published networks hold in one module."""

    def __init__(self, vision: nn.Module, num_features: int) -> None:
        super().__init__()
        self.vision = vision
        self.image_projection = nn.Linear(int(vision.embed_dim), num_features)  # pyright: ignore

    def forward(self, image: Tensor) -> Tensor:
        return self.image_projection(self.vision(image, one_each(image)))


_SIDE = RuleTable(HCL_AL.rules)
_PREFIX = "image_encoder."


def _published(side: nn.Module, tensors: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
    own = side.state_dict() if tensors is None else tensors
    return {name.removeprefix(_PREFIX): t for name, t in to_published(own, _SIDE).items()}


@handles("hcl_al", "image_encoder")
def image_encoder(case: Case) -> None:
    config = case.config
    vision = build_vision(config, config["input_size"], config["in_channels"])
    side = _ImageSide(vision, config["num_features"]).eval()
    load_both_ways(side, {_PREFIX + name: t for name, t in case.state_dict.items()}, _SIDE)
    image, weight = case.inputs["image"].clone().requires_grad_(), case.inputs["w"]
    found = side(image)
    (found * weight).sum().backward()
    assert image.grad is not None
    stored = case.outputs["eval_grad_input"]
    step = image.shape[-1] // stored.shape[-1]
    ours = {
        "eval_output": found.detach(),
        "eval_grad_input": image.grad[:, :, ::step, ::step, ::step],
    }
    if "train_output" in case.outputs:
        side.zero_grad()
        trained = side.train()(case.inputs["image"])
        (trained * weight).sum().backward()
        first = next(
            name for name in _published(side) if name.endswith(("conv.weight", "volution.weight"))
        )
        gradients = {n: p.grad for n, p in side.named_parameters() if p.grad is not None}
        ours |= {"train_output": trained.detach()}
        ours |= {"train_grad_first_weight": _published(side, gradients)[first]}
        ours |= {f"train_after/{name}": buffer for name, buffer in _published(side).items()}
    for name, expected in case.outputs.items():
        share = GRADIENT_RELATIVE if "grad" in name else 1e-5
        case.assert_close(name, ours[name], expected, atol=relative(expected, share))
    case.assert_all_compared()


def raw_features(model: HCLAL, image: Tensor, tokens: Tokens) -> tuple[Tensor, Tensor]:
    """Return the features of both towers before they get unit length."""
    images = model.image_projection(model.vision(image, one_each(image)))
    return images, model.text_projection(model.text(tokens))


@handles("hcl_al", "clipnet_bert")
@torch.no_grad()
def clipnet_bert(case: Case) -> None:
    config = case.config
    text = HFEncoder({"model_type": "bert", **config["bert"]}, pooling="max", mask_padding=False)
    vision = vision_of(config)
    model = build_model(vision, text, config["num_features"])
    load_both_ways(model, case.state_dict, HCL_AL)
    tokens = tokens_of(case.inputs["text"])
    ours = forward_all(model, case.inputs["image"], tokens)
    for name, expected in case.outputs.items():
        case.assert_close(name, ours[name], expected)
    case.assert_all_compared()


def forward_all(model: HCLAL, image: Tensor, tokens: Tokens) -> dict[str, Tensor]:
    output = model(image, one_each(image), tokens)
    lesions, texts = output["image_embedding"], output["text_embedding"]
    logits = pair_logits(lesions, texts, output["logit_scale"])
    images, words = raw_features(model, image, tokens)
    return {
        "image_features": images,
        "text_features": words,
        "logits_per_image": logits,
        "logits_per_text": logits.T,
        "inference_probs_scale100": match_probabilities(lesions, texts),
    }


@handles("hcl_al", "fullsize")
@torch.no_grad()
def fullsize(case: Case) -> None:
    """Run a network of full size with weights and an image made by the formula of the README."""
    config = case.config
    sizes = (config["crop_size"], config["in_channels"], config["num_features"])
    model = full_size_model(config["upstream_class"], *sizes)
    own = to_published(model.state_dict(), HCL_AL)
    made = {name: _made(name, tensor) for name, tensor in own.items()}
    assert load_published(model, made, HCL_AL).complete
    shape = (1, config["in_channels"], *config["crop_size"])
    image = (2 * _hashed("image", math.prod(shape)) - 1).reshape(shape).float()
    ours = forward_all(model, image, tokens_of(case.inputs["text"]))
    for name, expected in case.outputs.items():
        tolerance = relative(expected, FULL_SIZE_RELATIVE)
        case.assert_close(name, ours[name], expected, atol=tolerance)
    case.assert_all_compared()


IMAGE_TYPES = {
    "ResidualNet": "residual",
    "BasicNet": "basic",
    "DenseNet": "densenet",
    "ViT": "vit",
}


def full_size_model(
    name: str, crop_size: Sequence[int], in_channels: int, num_features: int
) -> HCLAL:
    """Build one of the nine published networks by its name."""
    kind = next(kind for part, kind in IMAGE_TYPES.items() if part in name)
    vision = build_vision({"type": kind}, crop_size, in_channels)
    if "BERT" in name:
        text = HFEncoder({"model_type": "bert"}, pooling="max", mask_padding=False)
        return build_model(vision, text, num_features)
    text = build_text({})
    text_fc = nn.Linear(text.width, num_features) if "_Fc_" in name else None
    return build_model(vision, text, num_features, text_fc=text_fc)


def _hashed(name: str, count: int) -> Tensor:
    """Return the README's a in [0, 1) in float64; uint32 wraps as it asks."""
    x = np.arange(count, dtype=np.uint32) * np.uint32(2654435761)
    x += np.uint32(zlib.crc32(name.encode()))
    for shift, factor in ((16, 2246822519), (13, 3266489917)):
        x ^= x >> np.uint32(shift)
        x *= np.uint32(factor)
    x ^= x >> np.uint32(16)
    return torch.from_numpy(x / 2**32)


def _made(name: str, like: Tensor) -> Tensor:
    """Fill a tensor by its published name: the first rule that applies."""
    if name == "logit_scale":
        return torch.full_like(like, 2.65926)
    if name.endswith("num_batches_tracked"):
        return torch.zeros_like(like)
    a = _hashed(name, like.numel()).reshape(like.shape)
    signed = 2 * a - 1
    is_table = "embedding" in name and "patch_embedding" not in name
    if name.endswith("running_var"):
        value = 0.75 + 0.5 * a
    elif name.endswith("running_mean"):
        value = 0.1 * signed
    elif is_table or name.endswith("cls_token"):
        value = 0.05 * signed
    elif name.endswith("text_projection"):
        value = math.sqrt(3 / 512) * signed
    elif like.dim() >= 2:
        value = math.sqrt(3 / math.prod(like.shape[1:])) * signed
    else:
        value = 1 + 0.1 * signed if name.endswith("weight") else 0.1 * signed
    return value.float()
