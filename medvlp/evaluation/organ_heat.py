"""Where an organ's embedding comes from: what its query attends to, or what speaks for a text."""

from collections.abc import Container, Iterable, Sequence
from typing import Literal, NamedTuple

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Integer
from torch import Tensor
from torch.nn import functional as F

from medvlp.data.anatomy_windows import Window, end_padding, organ_windows
from medvlp.heads.anatomy_pool import AnatomyPool
from medvlp.models.fvlm import FVLM
from medvlp.types import Size3D


class OrganHeat(NamedTuple):
    """Maps of one volume, one for each organ that was asked about.

    Attributes:
        maps: On the voxels of the volume, interpolated from tokens; 0 outside of the organ's
            window and all over where the organ is absent.
        scores: Scalar product of embedding and text over the temperature; NaN where no text was
            given or the organ is absent.
        level_shares: How much of a map comes from each depth of the tower; NaN where there is none.
    """

    maps: Float[Tensor, "k d h w"]
    scores: Float[Tensor, " k"]
    level_shares: Float[Tensor, "k v"]


class TokenHeat(NamedTuple):
    """The same for one organ on the tokens that it covers.

    Attributes:
        heat: For each depth and token of the tower; 0 for tokens that the organ does not cover.
        score: NaN without a text.
    """

    heat: Float[Tensor, "v t"]
    score: Float[Tensor, ""]


def organ_heat(
    model: FVLM,
    image: Float[Tensor, "1 c d h w"],
    anatomy_mask: Integer[Tensor, "1 d h w"],
    *,
    organs: Sequence[int],
    texts: Float[Tensor, "k e"] | None = None,
    window: Size3D | None,
    multiple: Size3D,
    compat: Literal["published"] | None = None,
) -> OrganHeat:
    """Map which tokens the embeddings of organs are pooled from, or which speak for texts.

    Without texts a map is the attention of the organ's query, mean over heads, sum over depths: it
    sums to 1 over the tokens. With a text it is the mean over heads of max(A * G, 0), where A is
    that attention and G the gradient of the score with respect to it, as in
    `medvlp.vision.activation`. Windows are those of `embed_organs`, and so are the scores.

    Args:
        model: In evaluation mode.
        image: As for `embed_organs`.
        anatomy_mask: As for `embed_organs`.
        organs: The number of each map's organ; one may be asked about several times.
        texts: One embedding for each map; the difference of a positive and a negative prompt where
            the finding is scored by both.
        window: As for `embed_organs`.
        multiple: As for `embed_organs`; a multiple of the patch.
        compat: As for `embed_organs`.

    Raises:
        ValueError: If the model is in training mode, or does not know an organ.
    """
    _check(model, organs, texts)
    mask = anatomy_mask[0].cpu().numpy()
    windows = organ_windows(mask, len(model.organs), window, compat=compat)
    inputs = (image, anatomy_mask)
    return _over_windows(model, inputs, windows, organs=organs, texts=texts, multiple=multiple)


def _over_windows(
    model: FVLM,
    inputs: tuple[Tensor, Tensor],
    windows: Iterable[tuple[Window, Container[int]]],
    *,
    organs: Sequence[int],
    texts: Tensor | None,
    multiple: Size3D,
) -> OrganHeat:
    image, anatomy_mask = inputs
    with torch.inference_mode(False):
        maps = torch.zeros(len(organs), *image.shape[2:], device=image.device)
        scores = torch.full((len(organs),), torch.nan, device=image.device)
        shares = scores[:, None].repeat(1, model.vision.num_levels)
        for cut, there in windows:
            asked = [k for k, organ in enumerate(organs) if organ in there]
            if not asked:
                continue
            levels, flags, grid = _tokens(model, image, anatomy_mask, cut, multiple)
            for k in asked:
                text = None if texts is None else texts[k].detach().clone()
                found = token_heat(model, levels, flags[organs[k]], organs[k], text=text)
                maps[k][cut] = _on_voxels(found.heat.sum(0), grid, multiple, maps[k][cut].shape)
                scores[k] = found.score
                shares[k] = found.heat.sum(1) / found.heat.sum()
    return OrganHeat(maps, scores, shares)


def token_heat(
    model: FVLM,
    levels: Float[Tensor, "v t c"],
    covered: Bool[Tensor, " t"],
    organ: int,
    *,
    text: Float[Tensor, " e"] | None = None,
) -> TokenHeat:
    """Map one organ on the tokens of a tower; see `organ_heat`.

    Args:
        model: In evaluation mode.
        levels: Tokens of several depths.
        covered: Which tokens the organ covers, at least one.
        organ: Its number.
        text: Whose score is differentiated; None for the attention itself.
    """
    pool, tokens = model.pooling, rearrange(levels[:, covered], "v n c -> (v n) c")
    with torch.no_grad():
        attention, values = _pooling_attention(pool, tokens, organ)
        mixed = torch.einsum("hn,hnc->hc", attention, values)
    weights, score = attention, levels.new_tensor(torch.nan)
    if text is not None:
        with torch.enable_grad():
            mixed.requires_grad_()
            features = pool.projections[organ](pool.attention.out_proj(mixed.flatten()))
            score = F.normalize(features, dim=-1) @ text / model.temperature.detach().squeeze()
            (gradient,) = torch.autograd.grad(score, mixed)
        weights = (torch.einsum("hc,hnc->hn", gradient, values) * attention).clamp_min(0)
    heat = levels.new_zeros(levels.shape[:2])
    heat[:, covered] = rearrange(weights.mean(0), "(v n) -> v n", v=len(levels))
    return TokenHeat(heat, score.detach())


def _pooling_attention(
    pool: AnatomyPool, tokens: Float[Tensor, "n c"], organ: int
) -> tuple[Float[Tensor, "h n"], Float[Tensor, "h n e"]]:
    """Return what an organ's query makes of its tokens: attention of each head, and the values."""
    attention = pool.attention
    heads = attention.num_heads
    projected = zip(
        (pool.query[organ : organ + 1], tokens, tokens),
        attention.in_proj_weight.chunk(3),
        attention.in_proj_bias.chunk(3),
        strict=True,
    )
    query, keys, values = (
        rearrange(F.linear(x, weight, bias), "n (h e) -> h n e", h=heads)
        for x, weight, bias in projected
    )
    logits = torch.einsum("hqe,hne->hn", query, keys) * query.shape[-1] ** -0.5
    return logits.softmax(dim=-1), values


def _tokens(
    model: FVLM, image: Tensor, anatomy_mask: Tensor, cut: Window, multiple: Size3D
) -> tuple[Tensor, Tensor, Size3D]:
    """Run the tower over a window; give tokens (v t c), those of each organ (o t), their grid."""
    part, labels = image[:, :, *cut], anatomy_mask[:, *cut]
    d, h, w = end_padding(part.shape[2:], multiple)
    space = (0, w, 0, h, 0, d)
    part, labels = F.pad(part, space), F.pad(labels, space)
    with torch.no_grad():
        levels = model.vision(part, torch.ones(1, dtype=torch.int64))[0]
    patch = model.vision.patch_embed.patch_size
    depth, height, width = (n // p for n, p in zip(part.shape[2:], patch, strict=True))
    return levels, model.organ_tokens(labels)[0], (depth, height, width)


def _on_voxels(heat: Tensor, grid: Size3D, multiple: Size3D, shape: Sequence[int]) -> Tensor:
    """Interpolate tokens trilinearly over the padded window, and take the padding off."""
    added = end_padding(shape, multiple)
    padded = [length + more for length, more in zip(shape, added, strict=True)]
    voxels = F.interpolate(heat.reshape(1, 1, *grid), size=padded, mode="trilinear")[0, 0]
    return voxels[: shape[0], : shape[1], : shape[2]]


def _check(model: FVLM, organs: Sequence[int], texts: Tensor | None) -> None:
    if model.training:
        raise ValueError("the model is in training mode, where chance drops tokens; call eval()")
    known = len(model.organs)
    if not all(0 <= organ < known for organ in organs):
        raise ValueError(f"organs are {list(organs)}, the model's go from 0 to {known - 1}")
    if texts is not None and len(texts) != len(organs):
        raise ValueError(f"{len(texts)} texts came for {len(organs)} organs; give one for each")
