"""Tokens of a volume by HSENet's image tower, against the plain formulas of the published code.

The plain way forms every matrix of attention weights. Before anything is timed, both must give the
same tokens within 1e-4 in float32; how far those of autocast to bfloat16 are off is told.
"""

import argparse
import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from medvlp.bench.record import publish
from medvlp.bench.timing import interleaved
from medvlp.bench.trunk import count_flops, model_path
from medvlp.config import ConfigError, compose
from medvlp.layers.block import Block
from medvlp.layers.guided_attention import GuidedAttention
from medvlp.vision.slice_guided_vit import SliceGuidedViT
from medvlp.vision.volume_vit import VolumeViT

TOLERANCE = 1e-4
NUM_SLICES = 32  # of HSENet's recipes
PUBLISHED = "HSENet's own code on one thread of another machine: 11.1 s (stage 1), 11.8 s (stage 2)"
PLAIN, OURS, CLASS = "plain, all tokens", "all tokens", "class token alone"
HALF = "all tokens, bf16"


def run(options: argparse.Namespace) -> None:
    """Compare both ways, time them in turn, publish the table."""
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    rows = []
    for name in options.models:
        tower = build_tower(name).to(device)
        inputs = [part.to(device) for part in inputs_of(tower)]
        rows += [{"model": name} | row for row in measure(tower, inputs, options.repeats, device)]
    notes = [
        f"one volume, random weights, evaluation, fp32 but where told, {options.device}; median of "
        f"{options.repeats} after a warm-up, in turn; the class token is what retrieval and "
        "contrastive training take, a language model takes the others",
        PUBLISHED,
    ]
    publish("volume", rows, notes, options.json)


def build_tower(name: str) -> VolumeViT:
    """Build the image tower of a model in `conf/model`.

    Raises:
        ConfigError: If it is none of HSENet's.
    """
    from hydra.utils import instantiate

    model_path(name)  # a misspelt name
    torch.manual_seed(0)
    node = compose([f"model={name}"], "checkpoints").model
    tower = instantiate(node.get("vision"), _convert_="all") if "vision" in node else None
    if not isinstance(tower, VolumeViT):
        raise ConfigError(f"model {name!r} has no image tower of HSENet; try hsenet_stage2")
    return tower.eval().requires_grad_(False)


def inputs_of(tower: VolumeViT) -> list[Tensor]:
    """Make a volume and, for a tower of the second stage, the features of its slices."""
    generator = torch.Generator().manual_seed(0)
    channels = tower.patch_embed.in_channels
    inputs = [torch.rand(1, channels, *tower.image_size, generator=generator)]
    if isinstance(tower, SliceGuidedViT):
        inputs.append(torch.randn(1, NUM_SLICES, tower.slice_dim, generator=generator))
    return inputs


@torch.no_grad()
def measure(
    tower: VolumeViT, inputs: list[Tensor], repeats: int, device: torch.device
) -> list[dict[str, Any]]:
    """Compare the tokens, then time both ways in turn; return a row for each.

    Raises:
        RuntimeError: If they differ by more than `TOLERANCE`.
    """
    one = torch.ones(1, dtype=torch.int64)
    ways = {
        PLAIN: partial(plain_tokens, tower, *inputs),
        OURS: partial(tower.tokens, *inputs),
        CLASS: partial(tower, inputs[0], one, *inputs[1:]),
        HALF: partial(_half, tower, inputs, device),
    }
    differences = _differences(ways)
    times = interleaved(ways, repeats, device)
    clock = "wall" if device.type == "cuda" else "cpu"
    seconds = {name: getattr(time, clock) for name, time in times.items()}
    return [
        {
            "way": name,
            "wall s": times[name].wall,
            "CPU s": times[name].cpu,
            "GFLOP/s": count_flops(way) / seconds[name] / 1e9,
            "speed": f"{seconds[PLAIN] / seconds[name]:.2f}x",
            "largest difference": f"{differences[name]:.1e}",
        }
        for name, way in ways.items()
    ]


def _differences(ways: Mapping[str, Callable[[], Tensor]]) -> dict[str, float]:
    results = {name: way() for name, way in ways.items()}
    expected = results[PLAIN]
    differences = {
        name: float((result - (expected[:, 0] if name == CLASS else expected)).abs().max())
        for name, result in results.items()
    }
    largest = max(value for name, value in differences.items() if name != HALF)
    if largest > TOLERANCE:
        raise RuntimeError(
            f"tokens differ by {largest:.1e}, at most {TOLERANCE} was expected: the ways do not "
            "compute the same, so their speed says nothing"
        )
    return differences


def _half(tower: VolumeViT, inputs: list[Tensor], device: torch.device) -> Tensor:
    with torch.autocast(device.type, torch.bfloat16):
        return tower.tokens(*inputs)


def plain_tokens(
    tower: VolumeViT,
    image: Float[Tensor, "n c d h w"],
    slice_features: Float[Tensor, "n m f"] | None = None,
) -> Float[Tensor, "n t e"]:
    """Compute what `tower.tokens` does with the weights of the tower, formula by formula."""
    patches = tower.embed(image)
    if isinstance(tower, SliceGuidedViT) and slice_features is not None:
        found = _plain_guided(tower.slice_attention, patches, slice_features)
        patches = torch.sigmoid(tower.patch_score(found)) * patches
    tokens = torch.cat((tower.cls_token.expand(len(patches), -1, -1), patches), dim=1)
    for block in tower.blocks:
        assert isinstance(block, Block)
        tokens = tokens + _plain_attention(block, block.norm1(tokens))
        hidden = F.gelu(block.mlp.fc1(block.norm2(tokens)))
        tokens = tokens + block.mlp.fc2(hidden)
    return tower.norm(tokens)


def _plain_attention(block: Block, x: Tensor) -> Tensor:
    qkv = block.attn.qkv(x).unflatten(-1, (3, block.attn.num_heads, -1))
    q, k, v = qkv.permute(2, 0, 3, 1, 4)
    scores = torch.einsum("bhxc,bhyc->bhxy", q, k) / math.sqrt(q.shape[-1])
    mixed = torch.einsum("bhxy,bhyc->bhxc", scores.softmax(dim=-1), v)
    return block.attn.proj(mixed.transpose(1, 2).flatten(-2))


def _plain_guided(attention: GuidedAttention, x: Tensor, context: Tensor) -> Tensor:
    query, value = attention.query(x), attention.value(context)
    mixed = torch.einsum("bxy,byc->bxc", attention.weights(x, context), value)
    return attention.norm(query + attention.out(mixed))
