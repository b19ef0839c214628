"""HSENet's image towers: what they compute, what they refuse, what options leave as it is."""

from typing import Any

import pytest
import torch
from torch import Tensor

from medvlp.layers.attention import Attention
from medvlp.layers.guided_attention import GuidedAttention
from medvlp.layers.patch_embed import ConvStemPatchEmbed, PatchEmbed3D, PerceptronPatchEmbed
from medvlp.vision.slice_guided_vit import SliceGuidedViT
from medvlp.vision.volume_vit import VolumeViT

TOWERS = (VolumeViT, SliceGuidedViT)


def make_tower(kind: type[VolumeViT] = VolumeViT, **changes: Any) -> VolumeViT:
    torch.manual_seed(0)
    options: dict[str, Any] = {"width": 24, "depth": 2, "num_heads": 2, "mlp_dim": 40} | changes
    if kind is SliceGuidedViT:
        options = {"slice_dim": 10, "slice_dropout": 0.0} | options
    size, patch = options.pop("image_size", (4, 8, 16)), options.pop("patch_size", (2, 4, 4))
    tower = kind(size, patch, **options)
    for parameter in tower.parameters():  # the class token would be zero
        torch.nn.init.normal_(parameter, std=0.2)
    return tower


def inputs(tower: VolumeViT, count: int = 3) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(1)
    image = torch.rand(count, 1, 4, 8, 16, generator=generator)
    rows = (image, torch.ones(count, dtype=torch.int64))
    if isinstance(tower, SliceGuidedViT):
        return *rows, torch.randn(count, 5, 10, generator=generator)
    return rows


@pytest.mark.parametrize("kind", TOWERS)
def test_the_class_token_alone_gives_the_features_and_gradients_of_all_tokens(kind) -> None:
    tower, whole = make_tower(kind), make_tower(kind)
    image, ones, *slices = inputs(tower)
    features, expected = tower(image, ones, *slices), whole.tokens(image, *slices)[:, 0]
    assert whole.tokens(image, *slices).shape == (3, 1 + 16, 24)
    torch.testing.assert_close(features, expected, rtol=0, atol=1e-6)
    for result in (features, expected):
        result.square().sum().backward()
    for ours, theirs in zip(tower.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=0, atol=1e-4)


@pytest.mark.parametrize("kind", TOWERS)
def test_no_study_depends_on_the_others(kind) -> None:
    tower = make_tower(kind)
    rows = inputs(tower)
    alone = torch.cat([tower(*(part[i : i + 1] for part in rows)) for i in range(3)])
    torch.testing.assert_close(tower(*rows), alone, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", TOWERS)
def test_checkpointing_changes_neither_features_nor_gradients(kind) -> None:
    plain, saving = make_tower(kind), make_tower(kind, activation_checkpointing=True)
    results = [tower.train()(*inputs(tower)) for tower in (plain, saving)]
    assert torch.equal(*results)
    for result in results:
        result.square().sum().backward()
    for one, other in zip(plain.parameters(), saving.parameters(), strict=True):
        assert one.grad is not None and other.grad is not None
        assert torch.equal(one.grad, other.grad)


def test_patches_are_flattened_with_the_channel_fastest() -> None:
    ours, theirs = PerceptronPatchEmbed(2, (2, 3, 4), 5), PatchEmbed3D(2, (2, 3, 4), 5)
    with torch.no_grad():
        weight = ours.proj.weight.reshape(5, 2, 3, 4, 2)
        theirs.proj.weight.copy_(weight.permute(0, 4, 1, 2, 3))
        theirs.proj.bias.copy_(ours.proj.bias)
    volume = torch.rand(1, 2, 4, 6, 8)
    torch.testing.assert_close(ours(volume), theirs(volume), rtol=0, atol=1e-6)


def test_queries_keys_and_values_have_no_bias_and_norms_are_coarse() -> None:
    tower = make_tower()
    attention = tower.blocks[0].get_submodule("attn")
    assert isinstance(attention, Attention)
    assert attention.qkv.bias is None and attention.proj.bias is not None
    assert {m.eps for m in tower.modules() if isinstance(m, torch.nn.LayerNorm)} == {1e-5}
    assert tower.get_parameter("blocks.0.mlp.fc1.weight").shape == (40, 24)


def test_scores_weigh_patches_with_their_positions_but_not_the_class_token() -> None:
    tower = make_tower(SliceGuidedViT)
    assert isinstance(tower, SliceGuidedViT)
    image, _, slices = inputs(tower)
    patches = tower.embed(image)
    scores = tower.scores(patches, slices)
    assert scores.shape == (3, 16) and ((scores > 0) & (scores < 1)).all()
    torch.testing.assert_close(tower.guided(patches, slices), scores[:, :, None] * patches)
    with torch.no_grad():  # a score of one for all makes it the tower of the first stage
        tower.patch_score.weight.zero_()
        tower.patch_score.bias.fill_(100.0)
    plain = make_tower()
    own = {name: tensor for name, tensor in tower.state_dict().items() if "slice" not in name}
    plain.load_state_dict({n: t for n, t in own.items() if not n.startswith("patch_score")})
    torch.testing.assert_close(tower.tokens(image, slices), plain.tokens(image))


def test_the_order_of_slices_does_not_matter() -> None:
    tower = make_tower(SliceGuidedViT)
    image, ones, slices = inputs(tower)
    torch.testing.assert_close(tower(image, ones, slices), tower(image, ones, slices.flip(1)))


def test_the_residual_of_guided_attention_is_the_projected_query() -> None:
    attention = GuidedAttention(2, 1).eval()
    state = {name: torch.zeros_like(tensor) for name, tensor in attention.state_dict().items()}
    state |= {"query.weight": torch.tensor([[0.0, 3.0], [1.0, 0.0]]), "norm.weight": torch.ones(2)}
    attention.load_state_dict(state)  # nothing is found, and the query swaps the channels
    x = torch.tensor([[[5.0, 1.0]]])
    result = attention(x, torch.ones(1, 4, 1))
    assert torch.allclose(result, torch.tensor([[[-1.0, 1.0]]]), atol=1e-4)  # of (3, 5)
    assert attention.weights(x, torch.ones(1, 4, 1)).tolist() == [[[0.25] * 4]]


def test_dropout_is_for_training_alone() -> None:
    tower = make_tower(SliceGuidedViT, slice_dropout=0.5)
    rows = inputs(tower)
    assert not torch.equal(tower.train()(*rows), tower(*rows))
    assert torch.equal(tower.eval()(*rows), tower(*rows))


def test_a_stem_gives_the_same_grid() -> None:
    tower = make_tower(patch_size=(4, 4, 4), stem_stages=1, width=16)
    assert isinstance(tower.patch_embed, ConvStemPatchEmbed) and tower.grid == (1, 2, 4)
    assert tower(*inputs(tower)).shape == (3, 16)


def test_what_the_towers_cannot_take_is_said() -> None:
    tower, guided = make_tower(), make_tower(SliceGuidedViT)
    image, ones, slices = inputs(guided)
    with pytest.raises(ValueError, match="3 scans came for 1 studies; HSENet encodes one scan"):
        tower(image, torch.tensor([3]))
    with pytest.raises(ValueError, match=r"volumes of \(1, 4, 8, 8\) came .*takes \(1, 4, 8, 16\)"):
        tower(image[..., :8], ones)
    with pytest.raises(ValueError, match=r"\(4, 9, 16\) voxels do not divide into .* \(2, 4, 4\)"):
        make_tower(image_size=(4, 9, 16))
    with pytest.raises(ValueError, match=r"\(2, 4, 4\) voxels cannot be halved 2 times"):
        make_tower(stem_stages=2)
    with pytest.raises(ValueError, match="needs the features of each scan's slices and none came"):
        guided(image, ones)
    for wrong in (slices[:2], slices[..., :9], slices[:, :0]):
        with pytest.raises(ValueError, match=r"slice features of shape \(.*takes 10 channels"):
            guided(image, ones, wrong)
