"""HCL-AL: losses on given logits and in whole models, with their gradients."""

import re

import torch
from torch import Tensor, nn

from medvlp.checkpoints.hcl_al_rules import HCL_AL
from medvlp.losses.lesion_places import HardNegativeLoss, PlaceClipLoss
from medvlp.losses.row_losses import RankedRows, SkipTopRows, SmoothedRows
from medvlp.models.hcl_al import HCLAL
from medvlp.types import Tokens, TwoTowerOutput

from .hcl_al_models import (
    GRADIENT_RELATIVE,
    build_model,
    build_text,
    forward_all,
    one_each,
    relative,
    tokens_of,
    vision_of,
)
from .hsenet_vision import load_both_ways
from .registry import Case, handles


def rows_of(name: str, batch: int) -> nn.Module:
    """Build the loss of rows that the name of an output says, with its parameters."""
    kind, *options = name.split("_")
    if kind in ("Clip", "ClipHardNegSample"):
        return SmoothedRows(float(options[0].removeprefix("ls")))
    if kind == "TopNLabelSmoothingClip":
        return RankedRows() if options == ["default"] else RankedRows([float(t) for t in options])
    assert kind == "SkipTopNClip", f"unknown loss {name}"
    smoothing, skipped = options[0].removeprefix("ls"), options[1].removeprefix("skip")
    count = _count(skipped, batch)
    return SkipTopRows(count, float(smoothing), compat="published")


def _count(text: str, batch: int) -> int:
    """Read "5", or "Bm1" for one less than the batch."""
    match = re.fullmatch(r"Bm(\d+)", text)
    return batch - int(match[1]) if match else int(text)


@handles("hcl_al", "losses")
def losses(case: Case) -> None:
    own = torch.eye(case.config["batch"], dtype=torch.bool)
    names = {key.split("/")[1] for key in case.outputs if key.startswith("value/")}
    for name in names:
        rows = rows_of(name, len(own))
        image, text = (
            case.inputs[f"logits_per_{side}"].clone().requires_grad_() for side in ("image", "text")
        )
        if f"grad_text/{name}" not in case.outputs:  # of one side alone
            rows(image, own).backward()
            _compare(case, name, {"value": rows(image, own), "grad_image": image.grad})
            continue
        value = (rows(image, own) + rows(text, own)) / 2
        value.backward()
        both = case.inputs["logits_per_image"].clone().requires_grad_()
        symmetric = (rows(both, own) + rows(both.T, own)) / 2
        symmetric.backward()
        _compare(
            case,
            name,
            {
                "value": value,
                "grad_image": image.grad,
                "grad_text": text.grad,
                "value_symmetric": symmetric,
                "grad_symmetric": both.grad,
            },
        )
    case.assert_all_compared()


def _compare(case: Case, name: str, ours: dict[str, Tensor | None]) -> None:
    for what, found in ours.items():
        assert found is not None
        key = f"{what}/{name}"
        case.assert_close(key, found.detach(), case.outputs[key])


@handles("hcl_al", "clipnet")
def clipnet(case: Case) -> None:
    model, tokens = _clipnet(case, text_fc=case.config.get("image", {}).get("text_fc", False))
    image = case.inputs["image"]
    with torch.no_grad():
        ours = forward_all(model, image, tokens)
    for name, expected in case.outputs.items():
        if "/" not in name:
            case.assert_close(name, ours[name], expected)
    for key in [key for key in case.outputs if key.startswith("loss/")]:
        name = key.removeprefix("loss/")
        loss = PlaceClipLoss(rows_of(name, len(image)), merge_texts=False)
        model.zero_grad()
        output = model(image, one_each(image), tokens)
        _compare_step(case, name, loss(output, {})["total"], model, "grad_image_fc_bias")
    case.assert_all_compared()


handles("hcl_al", "clipnet_fc")(clipnet)


def _clipnet(case: Case, *, text_fc: bool) -> tuple[HCLAL, Tokens]:
    config = case.config
    vision = vision_of(config)
    text = build_text(config["text"])
    fc = nn.Linear(text.width, config["num_features"]) if text_fc else None
    model = build_model(vision, text, config["num_features"], text_fc=fc)
    load_both_ways(model, case.state_dict, HCL_AL)
    return model, tokens_of(case.inputs["text"])


def _compare_step(case: Case, name: str, loss: Tensor, model: HCLAL, bias: str) -> None:
    loss.backward()
    assert model.logit_scale.grad is not None
    gradient = model.image_projection.get_parameter("bias").grad
    assert gradient is not None
    case.assert_close(f"loss/{name}", loss.detach(), case.outputs[f"loss/{name}"])
    for what, found in (("grad_logit_scale", model.logit_scale.grad[0]), (bias, gradient)):
        expected = case.outputs[f"{what}/{name}"]
        tolerance = relative(expected, GRADIENT_RELATIVE)
        case.assert_close(f"{what}/{name}", found, expected, atol=tolerance)


@handles("hcl_al", "clipnet_negatives")
def clipnet_negatives(case: Case) -> None:
    model, tokens = _clipnet(case, text_fc=False)
    image, others = case.inputs["image"], case.inputs["other_text"]
    negatives = tokens_of(others.flatten(0, 1))
    for top_k in case.config["topK_values"]:
        loss = HardNegativeLoss(semi_hard=case.config["selection"] == "semihard", top_k=top_k)
        model.zero_grad()
        output = model(image, one_each(image), tokens, negatives)
        name = f"topK_{top_k}"
        placed = _right_on_diagonal(loss.logits(output).detach())
        case.assert_close(f"logits/{name}", placed, case.outputs[f"logits/{name}"])
        _compare_step(case, name, loss(output, {})["total"], model, "grad_fc_bias")
    lower = _num_lower(output)
    case.assert_close(
        "count_strictly_lower_negatives", lower, case.outputs["count_strictly_lower_negatives"]
    )
    case.assert_all_compared()


def _right_on_diagonal(logits: Tensor) -> Tensor:
    """Put the right one, which stands first, into column i of row i."""
    rows = [
        torch.cat((kept[:row], right[None], kept[row:]))
        for row, (right, kept) in enumerate(zip(logits[:, 0], logits[:, 1:], strict=True))
    ]
    return torch.stack(rows)


def _num_lower(output: TwoTowerOutput) -> Tensor:
    everything = HardNegativeLoss(semi_hard=False, top_k=output["negative_embedding"].shape[1])
    logits = everything.logits(output)
    return (logits[:, 1:] < logits[:, :1]).sum(dim=1)
