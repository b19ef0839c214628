"""HSENet: the contrastive models of both stages, losses and gradients."""

import re
from collections.abc import Mapping
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medvlp.checkpoints.adapter import to_published
from medvlp.checkpoints.hsenet_rules import CLIP
from medvlp.losses.contrastive import ClipLoss
from medvlp.losses.functional import pair_logits
from medvlp.losses.relation import RelationLoss
from medvlp.models.hsenet_clip import HSENetCLIP
from medvlp.text.hf_encoder import HFEncoder
from medvlp.types import Tokens, TwoTowerOutput, VolumeBatch

from .hsenet_vision import build_vision, load_both_ways
from .registry import Case, handles

TEACHER = "stage1_pretrained_CLIP."
EVALUATION = 10**9  # a step far behind the schedule: without a step the weight is zero


def build_clip(
    config: Mapping[str, Any], weights: Mapping[str, Tensor], *, slice_dim: int | None = None
) -> HSENetCLIP:
    """Build a model of a case and load its weights, both ways."""
    vision = build_vision(config, slice_dim=slice_dim)
    text = HFEncoder(_bert(config["text"]))
    model = HSENetCLIP(
        vision,
        text,
        image_projection=nn.Linear(vision.embed_dim, len(weights["mm_vision_proj.bias"])),
        text_projection=nn.Linear(text.width, len(weights["mm_language_proj.bias"])),
    ).eval()
    load_both_ways(model, weights, CLIP)
    return model


def _bert(text: Mapping[str, Any]) -> dict[str, Any]:
    options = dict(text)
    return {"model_type": options.pop("type", "bert")} | options


def inputs_of(case: Case) -> tuple[Tensor, Tensor, Tokens]:
    image = case.inputs["image"].clone().requires_grad_()
    tokens = Tokens(case.inputs["input_ids"], case.inputs["attention_mask"].bool())
    return image, torch.ones(len(image), dtype=torch.int64), tokens


def batch_of(count: int) -> VolumeBatch:
    """Make what the losses look at: text k belongs to study k, as the labels of the cases say."""
    return cast(VolumeBatch, {"text_study": torch.arange(count)})


@handles("hsenet", "clip_stage1")
def clip_stage1(case: Case) -> None:
    model = build_clip(case.config, case.state_dict)
    image, ones, tokens = inputs_of(case)
    assert torch.equal(case.inputs["labels"], torch.arange(len(image)))
    output = model(image, ones, tokens)
    loss = ClipLoss()(output, batch_of(len(image)))["total"]
    loss.backward()
    encoder = model.text.get_submodule("encoder")
    hidden = encoder(input_ids=tokens[0], attention_mask=tokens[1]).last_hidden_state
    ours = {
        "image_embeds": output["image_embedding"],
        "text_embeds": output["text_embedding"],
        "image_embeds_all_tokens": _unit(model.image_projection(model.vision.tokens(image))),
        "text_embeds_all_tokens": _unit(model.text_projection(hidden)),
        "logits": _symmetric(output),
        "loss": loss,
    }
    assert image.grad is not None
    ours["grad_image"] = image.grad
    ours |= {f"grad.{name}": gradient for name, gradient in gradients_of(model).items()}
    for name, expected in case.outputs.items():
        case.assert_close(name, ours[name].detach(), expected)
    case.assert_all_compared()


@handles("hsenet", "clip_stage2")
def clip_stage2(case: Case) -> None:
    own = {name: t for name, t in case.state_dict.items() if not name.startswith(TEACHER)}
    teacher_weights = {
        name.removeprefix(TEACHER): tensor
        for name, tensor in case.state_dict.items()
        if name.startswith(TEACHER)
    }
    slice_dim = case.inputs["slice_features"].shape[-1]
    model = build_clip(case.config, own, slice_dim=slice_dim)
    teacher = build_clip(case.config, teacher_weights).requires_grad_(False)
    for name in case.outputs:
        match = re.fullmatch(r"loss_step_(\d+|none)", name)
        if match:
            _compare_step(case, model, teacher, match[1])
    case.assert_all_compared()


def _compare_step(case: Case, model: HSENetCLIP, teacher: HSENetCLIP, step: str) -> None:
    image, ones, tokens = inputs_of(case)
    slices = case.inputs["slice_features"].clone().requires_grad_()
    number = EVALUATION if step == "none" else int(step)
    model.zero_grad()
    output = model(image, ones, tokens, slices)
    with torch.no_grad():
        taught = teacher(image, ones, tokens)
    losses = RelationLoss(ClipLoss())(output, batch_of(len(image)), teacher=taught, step=number)
    losses["total"].backward()
    scale = output["logit_scale"]
    ours = {
        f"loss_step_{step}": losses["total"],
        "loss_itc_stage2": losses["contrastive"],
        "loss_relation": losses["relation"],
        "image_embeds": output["image_embedding"],
        "text_embeds": output["text_embedding"],
        "image_embeds_stage1": taught["image_embedding"],
        "text_embeds_stage1": taught["text_embedding"],
        "logits_stage1": pair_logits(taught["image_embedding"], taught["text_embedding"], scale),
        "logits_stage2": pair_logits(output["image_embedding"], output["text_embedding"], scale),
        "logits": _symmetric(output),
    }
    assert image.grad is not None and slices.grad is not None
    found = {"grad_image": image.grad, "grad_slices": slices.grad}
    found |= {f"grad.{name}": gradient for name, gradient in gradients_of(model).items()}
    ours |= {f"{name}_step_{step}": gradient for name, gradient in found.items()}
    for name in ours.keys() & case.outputs.keys():
        case.assert_close(name, ours[name].detach(), case.outputs[name])


def gradients_of(model: HSENetCLIP) -> dict[str, Tensor]:
    """Return the gradients under published names."""
    ours = {name: parameter.grad for name, parameter in model.named_parameters()}
    present = {name: gradient for name, gradient in ours.items() if gradient is not None}
    return to_published(present, CLIP)


def _unit(features: Tensor) -> Tensor:
    return F.normalize(features, dim=-1)


def _symmetric(output: TwoTowerOutput) -> Tensor:
    """Return what the published models call logits: the mean of both directions."""
    images, texts = output["image_embedding"], output["text_embedding"]
    logits = pair_logits(images, texts, output["logit_scale"])
    return (logits + logits.T) / 2
