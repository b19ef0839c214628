"""CLIP's ViT: what it computes, what it refuses, what its options leave as it is."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from medvlp.optim.groups import decay_groups
from medvlp.vision.image_vit import ImageViT


def make_tower(**changes: Any) -> ImageViT:
    torch.manual_seed(0)
    options: dict[str, Any] = {"width": 24, "depth": 3, "num_heads": 2} | changes
    return ImageViT(options.pop("image_size", 16), options.pop("patch_size", 4), **options)


def images(count: int = 3, size: int = 16) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, 3, size, size, generator=generator), torch.ones(count).long()


def test_no_image_depends_on_the_others() -> None:
    tower, (image, ones) = make_tower(), images()
    features = tower(image, ones)
    assert features.shape == (3, 24)
    alone = torch.cat([tower(image[i : i + 1], ones[:1]) for i in range(3)])
    torch.testing.assert_close(features, alone, rtol=0, atol=1e-6)


def test_the_class_token_alone_gives_the_features_and_gradients_of_all_tokens() -> None:
    tower, (image, ones) = make_tower(), images()
    whole = copy.deepcopy(tower)
    features, expected = tower(image, ones), whole.norm(whole.tokens(image, ones)[:, 0])
    torch.testing.assert_close(features, expected, rtol=0, atol=1e-6)
    for result in (features, expected):
        result.square().sum().backward()
    for ours, theirs in zip(tower.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=0, atol=1e-5)


def test_patches_are_read_row_by_row_from_colour_planes() -> None:
    tower = make_tower(depth=1)
    image = images(1)[0]
    expected = tower.patch_embed.proj(image).flatten(2).transpose(1, 2)
    torch.testing.assert_close(tower.patch_embed(image), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("activation", ["gelu", "quick_gelu"])
def test_checkpointing_changes_neither_features_nor_gradients(activation: str) -> None:
    plain = make_tower(activation=activation).train()
    saving = make_tower(activation=activation, activation_checkpointing=True).train()
    image, ones = images()
    results = [tower(image, ones) for tower in (plain, saving)]
    assert torch.equal(*results)
    for result in results:
        result.square().sum().backward()
    for one, other in zip(plain.parameters(), saving.parameters(), strict=True):
        assert one.grad is not None and other.grad is not None
        assert torch.equal(one.grad, other.grad)


def test_the_activations_differ() -> None:
    image, ones = images()
    quick, exact = (make_tower(activation=name)(image, ones) for name in ("quick_gelu", "gelu"))
    assert not torch.allclose(quick, exact, atol=1e-4)


def test_positions_are_decayed_and_the_class_token_is_not() -> None:
    tower = make_tower()
    no_decay, decay = decay_groups(tower)
    assert any(parameter is tower.pos_embed for parameter in decay["params"])
    assert any(parameter is tower.cls_token for parameter in no_decay["params"])


def test_what_the_tower_cannot_take_is_said() -> None:
    tower, (image, ones) = make_tower(), images(4)
    with pytest.raises(ValueError, match="4 images came for 2 studies; this tower encodes single"):
        tower(image, torch.tensor([2, 2]))
    with pytest.raises(ValueError, match=r"images of \(3, 20, 16\) came .*takes \(3, 16, 16\)"):
        tower(torch.randn(4, 3, 20, 16), ones)
    with pytest.raises(ValueError, match=r"images of \(1, 16, 16\) came"):
        tower(image[:, :1], ones)
    with pytest.raises(ValueError, match="30 pixels a side do not divide into patches of 4"):
        make_tower(image_size=30)
    with pytest.raises(ValueError, match="width 24 is not divisible by 5 heads"):
        make_tower(num_heads=5)
