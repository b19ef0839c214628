"""Activation maps against the whole attention matrix, which the maps never make."""

import pytest
import torch
from einops import rearrange
from torch import Tensor, nn

from medvlp.layers.patch_embed import ConvStemPatchEmbed, PatchEmbed3D
from medvlp.layers.pooling import ClsPooling, DualTokenPooling, MeanMaxPooling
from medvlp.layers.pos_embed import ScanPositions
from medvlp.vision.activation import reads_class_token, relevance, upsample
from medvlp.vision.hierarchical_vit import HierarchicalViT

PATCH = (2, 4, 4)


class Explicit(nn.Module):
    """Attention that keeps its whole matrix."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.matrix = inner, torch.empty(0)

    def forward(self, x: Tensor, lengths: object = None) -> Tensor:
        q, k, v = self.inner.qkv(x).unflatten(-1, (3, self.inner.num_heads, -1)).unbind(2)
        q, k, v = (part.transpose(1, 2) for part in (q, k, v))
        self.matrix = (q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5).softmax(-1)
        return self.inner.proj((self.matrix @ v).transpose(1, 2).flatten(-2))


def tower(levels: list[str], pooling: nn.Module | None = None, registers: int = 0):
    torch.manual_seed(0)
    vision = HierarchicalViT(
        PatchEmbed3D(1, PATCH, 24),
        (3, 2, 2),
        levels=levels,
        num_heads=4,
        num_register_tokens=registers,
        scan_positions=ScanPositions(3),
        pooling=pooling,
    ).double()
    for parameter in vision.parameters():
        nn.init.normal_(parameter, std=0.3)
    return vision.eval()


def study(num_scans: int, size: tuple[int, int, int] = (6, 8, 8)) -> Tensor:
    generator = torch.Generator().manual_seed(num_scans)
    return torch.randn(num_scans, 1, *size, generator=generator, dtype=torch.float64)


def linear_score(width: int, num_targets: int = 2, token: int | None = None):
    generator = torch.Generator().manual_seed(7)
    targets = torch.randn(num_targets, width, generator=generator, dtype=torch.float64)

    def score(features: Tensor) -> Tensor:
        chosen = features[0] if token is None else features[0, token]
        return targets @ torch.nn.functional.normalize(chosen, dim=-1)

    return score


def published(vision: HierarchicalViT, image: Tensor, score, token: int) -> Tensor:
    """Compute the maps as published: by the whole matrix and its gradient."""
    block = vision.blocks[-1]
    original = block.attn
    explicit = block.attn = Explicit(original)
    scores = score(vision(image, torch.tensor([len(image)])))
    rows = []
    for value in scores:
        (gradient,) = torch.autograd.grad(value, explicit.matrix, retain_graph=True)
        product = (explicit.matrix * gradient).clamp_min(0).mean(1)
        rows.append(product[:, token, vision.num_prefix :].detach().flatten())
    block.attn = original
    return torch.stack(rows)


@pytest.mark.parametrize("last", ["study", "scan", "slice"])
@pytest.mark.parametrize("num_scans", [1, 3, 5])
@pytest.mark.parametrize(
    ("pooling", "registers", "token", "width"),
    [
        (ClsPooling(), 0, 0, 24),
        (ClsPooling(), 2, 0, 24),
        (DualTokenPooling(), 1, 0, 48),
        (DualTokenPooling(), 1, 1, 48),
    ],
)
def test_the_row_of_the_class_token_is_that_of_the_whole_matrix(
    last, num_scans, pooling, registers, token, width
):
    vision = tower(["slice", "study", last], pooling, registers)
    image = study(num_scans)
    dual = token if isinstance(pooling, DualTokenPooling) else None
    score = linear_score(width, token=dual)
    found = relevance(vision, image, score, token=token)
    assert found.maps.shape == (2, num_scans, 3, 2, 2)
    expected = rearrange(
        published(vision, image, score, token), "k (s d h w) -> k s d h w", d=3, h=2, w=2
    )
    torch.testing.assert_close(found.maps, expected, rtol=0, atol=1e-12)
    features = vision(image, torch.tensor([num_scans]))
    torch.testing.assert_close(found.scores, score(features).detach(), rtol=0, atol=1e-12)


def test_another_grid_than_that_of_the_position_table():
    vision, score = tower(["scan", "study"]), linear_score(24)
    image = study(2, (10, 12, 8))
    found = relevance(vision, image, score)
    assert found.maps.shape == (2, 2, 5, 3, 2)
    torch.testing.assert_close(found.maps.flatten(1), published(vision, image, score, 0))


def test_patches_times_their_gradient_add_up_to_the_score_of_a_linear_tower():
    class Mean(nn.Module):
        def forward(self, tokens: Tensor, num_prefix: int) -> Tensor:
            return tokens[:, num_prefix:].mean(1)

    vision = tower(["scan", "study"], Mean())
    vision.norm = nn.Identity()
    for block in vision.blocks:
        block.forward = lambda tokens, lengths: tokens
    weight = torch.randn(1, 24, dtype=torch.float64)
    found = relevance(vision, study(2), lambda f: weight @ f[0], method="patches")
    shares = (vision.patch_embed(study(2)) @ weight[0] / (2 * 12)).clamp_min(0)
    torch.testing.assert_close(found.maps[0], shares.detach())


def test_patches_before_a_stem_give_a_finer_map():
    vision = tower(["scan", "study"], MeanMaxPooling())
    vision.patch_embed = ConvStemPatchEmbed(1, (2, 2, 2), embed_dim=24, num_stages=1).double()
    image = study(2, (6, 8, 8))
    found = relevance(vision, image, linear_score(48), method="patches")
    assert found.maps.shape == (2, 2, 3, 4, 4)
    assert vision.patch_embed(image).shape == (2, 2, 2, 2, 24)


def test_a_method_that_sees_nothing_is_refused():
    pooled = tower(["scan", "study"], MeanMaxPooling())
    assert not reads_class_token(pooled)
    with pytest.raises(ValueError, match="MeanMaxPooling; choose the method 'patches'"):
        relevance(pooled, study(1), linear_score(48))
    assert reads_class_token(tower(["scan", "study"]))


def test_it_works_in_inference_mode_and_leaves_no_gradient():
    vision = tower(["scan", "study"])
    score = linear_score(24)
    expected = relevance(vision, study(2), score).maps
    with torch.inference_mode():
        found = relevance(vision, study(2), score)
    torch.testing.assert_close(found.maps, expected, rtol=0, atol=0)
    assert all(parameter.grad is None for parameter in vision.parameters())
    assert not vision.norm._forward_hooks and not vision.blocks[-1]._forward_pre_hooks


def test_training_mode_and_unknown_tokens_are_refused():
    vision = tower(["study"])
    with pytest.raises(ValueError, match="1 prefix tokens; choose 0 to 0"):
        relevance(vision, study(1), linear_score(24), token=1)
    with pytest.raises(ValueError, match="call eval"):
        relevance(vision.train(), study(1), linear_score(24))


def test_upsampling_keeps_scans_apart():
    maps = torch.zeros(1, 2, 2, 2, 2)
    maps[0, 1] = 1.0
    volumes = upsample(maps, (4, 6, 8))
    assert volumes.shape == (1, 2, 4, 6, 8)
    assert volumes[0, 0].max() == 0 and volumes[0, 1].min() == 1
