"""Activation maps of two towers."""

import pytest
import torch
from torch import nn

from medvlp.evaluation.activation import activation_maps, normalised
from medvlp.layers.patch_embed import PatchEmbed3D
from medvlp.layers.pooling import ClsPooling, DualTokenPooling, MeanMaxPooling
from medvlp.models.two_tower import TwoTower
from medvlp.vision.hierarchical_vit import HierarchicalViT


def two_tower(pooling: nn.Module, width: int, registers: int = 0) -> TwoTower:
    torch.manual_seed(0)
    vision = HierarchicalViT(
        PatchEmbed3D(1, (2, 2, 2), 12),
        (2, 2, 2),
        levels=["scan", "study"],
        num_heads=2,
        num_register_tokens=registers,
        pooling=pooling,
    )
    return TwoTower(
        vision,
        nn.Identity(),
        image_projection=nn.Linear(width, 6, bias=False),
        text_projection=nn.Identity(),
    ).eval()


@pytest.mark.parametrize(
    ("pooling", "width", "registers", "token", "method"),
    [
        (ClsPooling(), 12, 0, 0, "attention"),
        (MeanMaxPooling(), 24, 0, 0, "patches"),
        (DualTokenPooling(), 24, 1, 0, "attention"),
        (DualTokenPooling(), 24, 1, 1, "attention"),
    ],
)
def test_logits_are_scaled_cosines_and_the_method_follows_the_pooling(
    pooling, width, registers, token, method
):
    model = two_tower(pooling, width, registers)
    image = torch.randn(3, 1, 4, 4, 4)
    texts = nn.functional.normalize(torch.randn(2, 6), dim=-1)
    found = activation_maps(model, image, texts, token=token)
    with torch.no_grad():
        embedding = model.embed_image(image, torch.tensor([3]))[0]
    torch.testing.assert_close(found.embedding, embedding)
    chosen = embedding if embedding.ndim == 1 else embedding[token]
    torch.testing.assert_close(found.scores, model.logit_scale.detach().exp() * texts @ chosen)
    assert found.method == method
    assert found.maps.shape == (2, 3, 2, 2, 2) and found.maps.min() >= 0


def test_another_image_tower_is_refused():
    model = two_tower(ClsPooling(), 12)
    model.vision = nn.Identity()
    with pytest.raises(ValueError, match="need a HierarchicalViT, the image tower is a Identity"):
        activation_maps(model, torch.zeros(1, 1, 4, 4, 4), torch.zeros(1, 6))


def test_normalised_values_lie_in_the_unit_interval():
    values = torch.tensor([[1.0, 3.0], [2.0, 2.0]])
    assert normalised(values, [1]).tolist() == [[0.0, 1.0], [0.0, 0.0]]
