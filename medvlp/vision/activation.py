"""Where a hierarchical ViT looks: gradient-weighted attention of its class token, or its patches.

Only the row of the class token is needed of the attention matrix and of its gradient. So the T x T
matrix, which at 14,000 tokens and 12 heads takes 10 GB, is never made: memory grows with T.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from medvlp.layers.block import Block
from medvlp.vision.hierarchical_vit import HierarchicalViT

MapMethod = Literal["attention", "patches"]
"""attention: of the class token in the last block, times its gradient, as published; patches: the
embedded patches times their gradient, for towers whose pooling does not read the class token."""

Score = Callable[[Tensor], Tensor]
"""From pooled features (1 *p f) to one score per target (k)."""


class Relevance(NamedTuple):
    """What `relevance` found in one study.

    Attributes:
        maps: For each target and scan, on the grid of tokens ("attention") or of patches
            ("patches": finer where a stem follows them); not negative, not normalised.
        scores: Of the targets.
        features: Pooled features of the study.
    """

    maps: Float[Tensor, "k s d h w"]
    scores: Float[Tensor, " k"]
    features: Float[Tensor, "1 *p f"]


class _Seen(NamedTuple):
    """Entrance of the last block (q n c), one row per sequence; final tokens (1 t c); the grid."""

    entering: Tensor
    final: Tensor
    grid: tuple[int, int, int]


def relevance(
    vision: HierarchicalViT,
    image: Float[Tensor, "s c d h w"],
    score: Score,
    *,
    method: MapMethod = "attention",
    token: int = 0,
) -> Relevance:
    """Map which patches of a study speak for each target.

    "attention": A is the class token's row of attention probabilities in the last block, G the
    gradient of the score with respect to it; the map is the mean over heads of max(A * G, 0). It is
    exact for every pooling; what pooled patch tokens contribute beside the class token is not part
    of it. If the last block ends at slices or scans, each has its own copy of the class token,
    which the tower averages: every copy maps its own patches, with the gradient through the mean.

    "patches": max(sum over channels of patch * gradient, 0), for the patches as they are linearly
    embedded, before positions and any stem. Needs the backward pass of the whole tower, and so the
    memory of a training step.

    Args:
        vision: In evaluation mode.
        image: Scans of one study.
        score: Differentiable; its parameters get no gradient.
        method: See `MapMethod`.
        token: Which prefix token's row: 0 the class token, 1 the register of dual towers.

    Raises:
        ValueError: If the tower is in training mode, has no such token, or its pooling does not
            read what the method looks at.

    Reference: HLIP (TMLR 2026), visualisation of the published repository.
    """
    _check(vision, token)
    with torch.inference_mode(False):
        if method == "attention":
            return _class_attention(vision, image, score, token)
        return _patch_products(vision, image, score)


def _check(vision: HierarchicalViT, token: int) -> None:
    if vision.training:
        raise ValueError("the tower is in training mode, where chance drops paths; call eval()")
    if not 0 <= token < vision.num_prefix:
        raise ValueError(
            f"token is {token}, the tower has {vision.num_prefix} prefix tokens; choose 0 to "
            f"{vision.num_prefix - 1}"
        )


def reads_class_token(vision: HierarchicalViT) -> bool:
    """Tell whether the pooling of a tower depends on its class token."""
    with torch.inference_mode(False), torch.enable_grad():
        tokens = torch.ones(1, vision.num_prefix + 2, vision.embed_dim, requires_grad=True)
        (gradient,) = torch.autograd.grad(vision.pooling(tokens, vision.num_prefix).sum(), tokens)
    return bool(gradient[:, 0].any())


def upsample(
    maps: Float[Tensor, "k s d h w"], size: tuple[int, int, int]
) -> Float[Tensor, "k s D H W"]:
    """Bring maps from the token grid to the network's voxels, trilinearly as published."""
    return F.interpolate(maps, size=size, mode="trilinear")


def _run(vision: HierarchicalViT, image: Tensor) -> _Seen:
    """Encode a study and keep what enters the last block and what leaves the last norm."""
    entering: list[Tensor] = []
    final: list[Tensor] = []
    grids: list[tuple[int, int, int]] = []

    def keep_grid(_module: object, _inputs: object, grid: Tensor) -> None:
        grids.append((grid.shape[1], grid.shape[2], grid.shape[3]))

    def keep_final(_module: object, _inputs: object, tokens: Tensor) -> None:
        final.append(tokens)

    hooks = [
        vision.patch_embed.register_forward_hook(keep_grid),
        vision.blocks[-1].register_forward_pre_hook(lambda _, inputs: entering.append(inputs[0])),
        vision.norm.register_forward_hook(keep_final),
    ]
    try:
        vision(image, torch.tensor([len(image)]))
    finally:
        for hook in hooks:
            hook.remove()
    return _Seen(entering[0], final[0], grids[0])


def _class_attention(vision: HierarchicalViT, image: Tensor, score: Score, token: int) -> Relevance:
    block = vision.blocks[-1]
    assert isinstance(block, Block)
    with torch.no_grad():
        seen = _run(vision, image)
        attention, values = _attention_row(block, seen.entering, token)
        mixed = torch.einsum("qhn,qhnc->qhc", attention, values)
    with torch.enable_grad():
        mixed.requires_grad_()
        row = seen.entering[:, token] + block.attn.proj(mixed.flatten(1))
        row = row + block.mlp(block.norm2(row))
        row = vision.norm(row.mean(0, keepdim=True))  # copies of slices or scans are averaged
        before, after = seen.final[:, :token], seen.final[:, token + 1 :]
        features = vision.pooling(torch.cat((before, row[None], after), dim=1), vision.num_prefix)
        scores = score(features)
        gradients = _gradients(scores, mixed)
    if not any(bool(gradient.any()) for gradient in gradients):
        raise ValueError(
            f"the scores do not depend on prefix token {token}: the tower pools with "
            f"{type(vision.pooling).__name__}; choose the method 'patches'"
        )
    maps = []
    for gradient in gradients:
        weighted = torch.einsum("qhc,qhnc->qhn", gradient, values) * attention
        maps.append(weighted.clamp_min(0).mean(1)[:, vision.num_prefix :].flatten())
    depth, height, width = seen.grid
    grids = rearrange(
        torch.stack(maps), "k (s d h w) -> k s d h w", s=len(image), d=depth, h=height, w=width
    )
    return Relevance(grids, scores.detach(), features.detach())


def _attention_row(block: Block, entering: Tensor, token: int) -> tuple[Tensor, Tensor]:
    """Return the attention probabilities (q heads n) of one token, and all values (q heads n c)."""
    tokens, heads = block.norm1(entering), block.attn.num_heads
    weight, bias = block.attn.qkv.weight, block.attn.qkv.bias
    width = tokens.shape[-1]
    q_bias, kv_bias = (None, None) if bias is None else (bias[:width], bias[width:])
    query = F.linear(tokens[:, token], weight[:width], q_bias).unflatten(-1, (heads, -1))
    pairs = F.linear(tokens, weight[width:], kv_bias)
    keys, values = rearrange(pairs, "q n (two h c) -> two q h n c", two=2, h=heads)
    logits = torch.einsum("qhc,qhnc->qhn", query, keys) * query.shape[-1] ** -0.5
    return logits.softmax(dim=-1), values


def _patch_products(vision: HierarchicalViT, image: Tensor, score: Score) -> Relevance:
    embedded: list[Tensor] = []

    def replace_by_leaf(_module: object, _inputs: object, patches: Tensor) -> Tensor:
        embedded.append(patches.detach().requires_grad_())
        return embedded[0]

    stem = getattr(vision.patch_embed, "stem", vision.patch_embed)
    hook = stem.register_forward_hook(replace_by_leaf)
    try:
        with torch.enable_grad():
            features = vision(image, torch.tensor([len(image)]))
            scores = score(features)
            gradients = _gradients(scores, embedded[0])
    finally:
        hook.remove()
    patches = embedded[0].detach()
    maps = torch.stack([(gradient * patches).sum(-1).clamp_min(0) for gradient in gradients])
    return Relevance(maps, scores.detach(), features.detach())


def _gradients(scores: Tensor, source: Tensor) -> list[Tensor]:
    """Differentiate each score; a score that does not depend on the source has gradient 0."""
    gradients = []
    for value in scores:
        (gradient,) = torch.autograd.grad(value, source, retain_graph=True, allow_unused=True)
        gradients.append(torch.zeros_like(source) if gradient is None else gradient)
    return gradients
