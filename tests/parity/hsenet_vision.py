"""HSENet: both image towers, at tiny sizes and at full size, and the spatial packers."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from medvlp.checkpoints.adapter import RuleTable, load_published, to_published
from medvlp.checkpoints.hsenet_rules import PACKER, POOLED_PACKER, VISION
from medvlp.heads.spatial_packer import MeanPacker, SequencePacker, SpatialPacker
from medvlp.vision.slice_guided_vit import SliceGuidedViT
from medvlp.vision.volume_vit import VolumeViT

from .hlip_models import record
from .registry import Case, handles

FULL_SIZE_ATOL = 2e-5  # of its README
PACKER_GRADIENT_ATOL = 5e-5  # of its README
LOUD_SCORES = 10  # factor of the score weights in fullsize_formula


def build_vision(config: Mapping[str, Any], *, slice_dim: int | None = None) -> VolumeViT:
    """Build a tower from the published keys img_size, patch_size, hidden_size, ...

    With `slice_dim` that of the second stage.
    """
    options = {
        "width": config["hidden_size"],
        "depth": config["num_layers"],
        "num_heads": config["num_heads"],
        "mlp_dim": config["mlp_dim"],
        "in_channels": config.get("in_channels", 1),
    }
    if slice_dim is None:
        return VolumeViT(config["img_size"], config["patch_size"], **options).eval()
    options["slice_dim"] = slice_dim
    return SliceGuidedViT(config["img_size"], config["patch_size"], **options).eval()


def load_both_ways(module: nn.Module, weights: Mapping[str, Tensor], table: RuleTable) -> None:
    """Load strictly, and see that the same tensors come out again."""
    report = load_published(module, weights, table)
    exported = to_published(module.state_dict(), table)
    assert exported.keys() == weights.keys() - {*report.ignored}
    assert all(torch.equal(tensor, weights[name]) for name, tensor in exported.items())


@handles("hsenet", "vit_stage1")
@torch.no_grad()
def vit_stage1(case: Case) -> None:
    vision = build_vision(case.config)
    load_both_ways(vision, case.state_dict, VISION)
    _compare_tower(case, vision)


@handles("hsenet", "vit_stage2_2e3")
@torch.no_grad()
def vit_stage2_2e3(case: Case) -> None:
    slices = case.inputs["slice_features"]
    vision = build_vision(case.config, slice_dim=slices.shape[-1])
    assert isinstance(vision, SliceGuidedViT)
    load_both_ways(vision, case.state_dict, VISION)
    patches = vision.embed(case.inputs["image"])
    ours = {
        "cross_attn": vision.slice_attention.weights(patches, slices),
        "cross_out": vision.slice_attention(patches, slices),
        "scores": vision.scores(patches, slices),
    }
    for name, actual in ours.items():
        case.assert_close(name, actual, case.outputs[name])
    _compare_tower(case, vision, slices)


def _compare_tower(case: Case, vision: VolumeViT, *slices: Tensor) -> None:
    image = case.inputs["image"]
    seen = [record(block) for block in vision.blocks]
    ours = {"patch_tokens": vision.embed(image), "tokens": vision.tokens(image, *slices)}
    ours |= {f"hidden_{number}": outputs[0] for number, outputs in enumerate(seen)}
    ours["cls"] = vision(image, torch.ones(len(image), dtype=torch.int64), *slices)
    for name, actual in ours.items():
        case.assert_close(name, actual, case.outputs[name])
    case.assert_all_compared()


@handles("hsenet", "spatial_packer")
def spatial_packer(case: Case) -> None:
    tokens = case.inputs["tokens"]
    for name, options in case.config["variants"].items():
        packer, table = _packer(name, options, case.config, tokens.shape[1])
        prefix = f"{name}."
        weights = {
            key.removeprefix(prefix): tensor
            for key, tensor in case.state_dict.items()
            if key.startswith(prefix)
        }
        load_both_ways(packer, weights, table)
        inputs = tokens.clone().requires_grad_()
        packed = packer(inputs)
        assert packed.shape[1] == options["tokens_out"]
        case.assert_close(name, packed.detach(), case.outputs[name])
        if f"{name}.attn" in case.outputs:
            assert isinstance(packer, SpatialPacker)
            attention = packer.weights(tokens).detach()[:, :, None]
            case.assert_close(f"{name}.attn", attention, case.outputs[f"{name}.attn"])
        if f"cotangent_{name}" in case.inputs:
            (packed * case.inputs[f"cotangent_{name}"]).sum().backward()
            _compare_gradients(case, prefix, packer, table, inputs)
    case.assert_all_compared()


def _packer(
    name: str, options: Mapping[str, Any], config: Mapping[str, Any], num_patches: int
) -> tuple[nn.Module, RuleTable]:
    widths, out = (config["in_dim"], config["out_dim"]), options["tokens_out"]
    cells: dict[str, Any] = {"kernel": options["kernel"], "grid": config["grid"]}
    if name.startswith("packer"):
        return SpatialPacker(*widths, **cells).eval(), PACKER
    if name.startswith("pool_seq"):
        run = num_patches // out
        return SequencePacker(*widths, run=run, num_patches=num_patches).eval(), POOLED_PACKER
    return MeanPacker(*widths, **cells).eval(), POOLED_PACKER


def _compare_gradients(
    case: Case, prefix: str, packer: nn.Module, table: RuleTable, inputs: Tensor
) -> None:
    assert inputs.grad is not None
    ours = {name: tensor.grad for name, tensor in packer.named_parameters()}
    present = {name: gradient for name, gradient in ours.items() if gradient is not None}
    found = {f"grad.{name}": tensor for name, tensor in to_published(present, table).items()}
    found["grad_tokens_sum_over_channels"] = inputs.grad.sum(-1)
    for name, actual in found.items():
        key = prefix + name
        if key in case.outputs:
            case.assert_close(key, actual, case.outputs[key], atol=PACKER_GRADIENT_ATOL)


@handles("hsenet", "fullsize_formula")
@torch.no_grad()
def fullsize_formula(case: Case) -> None:
    """Run both towers and packers with weights and inputs made by the formula of the README."""
    config = case.config
    sizes = {
        "img_size": config["img_size"],
        "patch_size": config["patch_size"],
        "hidden_size": config["hidden"],
        "mlp_dim": config["mlp"],
        "num_layers": config["layers"],
        "num_heads": config["heads"],
    }
    salt, width, shape = config["salt"], config["hidden"], config["img_size"]
    image = (0.5 + formula(1000, math.prod(shape), salt)).reshape(1, 1, *shape).float()
    num_slices = config.get("num_slices", 32)
    slices = (6 * formula(1001, num_slices * width, salt)).reshape(1, num_slices, width).float()
    for stage, features in (("stage1", ()), ("stage2", (slices,))):
        vision = build_vision(sizes, slice_dim=width if features else None)
        fill(vision, VISION, config["salts"][stage])
        tokens = _compare_full_tower(case, stage, vision, image, features)
        packer = SpatialPacker(
            width, config["out_dim"], kernel=config.get("kernel", (1, 4, 4)), grid=vision.grid
        ).eval()
        fill(packer, PACKER, config["salts"][f"packer_{stage}"])
        packed = packer(tokens[:, 1:])
        for name, actual in (
            ("rows", packed[:, config["packer_rows"]]),
            ("mean_per_token", packed.mean(-1)),
        ):
            _assert_full(case, f"packer_{stage}_{name}", actual)
    case.assert_all_compared()


def _compare_full_tower(
    case: Case, stage: str, vision: VolumeViT, image: Tensor, slices: tuple[Tensor, ...]
) -> Tensor:
    rows, first = case.config["rows"], record(vision.blocks[0])
    tokens = vision.tokens(image, *slices)
    ours = {
        "rows": tokens[:, rows],
        "token_mean": tokens.mean(1),
        "token_std": tokens.std(1),
        "h0_rows": first[0][:, rows],
    }
    if isinstance(vision, SliceGuidedViT):
        ours["scores"] = vision.scores(vision.embed(image), *slices)
    for name, actual in ours.items():
        _assert_full(case, f"{stage}_{name}", actual)
    return tokens


def _assert_full(case: Case, name: str, actual: Tensor) -> None:
    case.assert_close(name, actual, case.outputs[name], atol=FULL_SIZE_ATOL)


def fill(module: nn.Module, table: RuleTable, salt: int) -> None:
    """Fill a module by the formula, its tensors in the order of their published names."""
    published = to_published(module.state_dict(), table)
    made = {
        name: _values(name)(formula(number, published[name].numel(), salt))
        .reshape(published[name].shape)
        .float()
        for number, name in enumerate(sorted(published))
    }
    assert load_published(module, made, table).complete


def _values(name: str) -> Callable[[Tensor], Tensor]:
    if "norm" in name and name.endswith("weight"):
        return lambda u: 1 + 0.4 * u
    if name.endswith("bias"):
        return lambda u: 0.2 * u
    factor = LOUD_SCORES if name == "patch_score_proj.weight" else 1
    return lambda u: factor * 0.07 * u


def formula(p: int, count: int, salt: int) -> Tensor:
    """Return the README's G(p, n, salt) in float64; uint32 wraps as it asks."""
    x = np.arange(count, dtype=np.uint32) * np.uint32(2654435761)
    x += np.uint32(((p + 1) * 40503 + salt * 7919) % 2**32)
    for _ in range(2):
        x ^= x >> np.uint32(16)
        x *= np.uint32(0x45D9F3B)
    x ^= x >> np.uint32(16)
    return torch.from_numpy(x / 2**32 - 0.5)
