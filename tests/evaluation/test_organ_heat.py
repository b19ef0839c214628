"""Which tokens an organ's embedding comes from."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from medvlp.evaluation.anatomy_zero_shot import embed_organs
from medvlp.evaluation.organ_heat import organ_heat, token_heat
from medvlp.heads.anatomy_pool import AnatomyPool
from medvlp.layers.patch_embed import PatchEmbed3D
from medvlp.models.fvlm import FVLM
from medvlp.vision.anatomy_vit import AnatomyViT

ORGANS = ["lung", "heart", "aorta"]
SHAPE, PATCH = (6, 10, 12), (2, 2, 4)


@pytest.fixture
def model() -> FVLM:
    torch.manual_seed(0)
    vision = AnatomyViT(PatchEmbed3D(1, PATCH, 8), (3, 5, 3), depth=3, num_heads=2, taps=(1, 2))
    pooling = AnatomyPool(ORGANS, 8, embed_dim=4, num_heads=2)
    nn.init.normal_(pooling.query)
    text = nn.Identity()
    return FVLM(vision, text, pooling=pooling, text_projection=nn.Linear(6, 4)).eval()


def study() -> tuple[torch.Tensor, torch.Tensor]:
    """Lung in the middle, heart in a corner, no aorta."""
    mask = torch.zeros(1, *SHAPE, dtype=torch.uint8)
    mask[0, 2:4, 2:6, 4:8] = 1
    mask[0, 5, 9, 11] = 2
    return torch.rand(1, 1, *SHAPE), mask


@pytest.mark.parametrize("window", [None, (2, 4, 4)])
def test_scores_are_those_of_the_evaluation_and_absent_organs_have_none(model, window):
    image, mask = study()
    settings = {"window": window, "multiple": (2, 4, 4)}
    embedding = embed_organs(model.embed_image, image, mask, num_organs=3, **settings)[0]
    texts, asked = F.normalize(torch.randn(4, 4), dim=-1), [1, 0, 2, 0]
    found = organ_heat(model, image, mask, organs=asked, texts=texts, **settings)
    expected = (embedding[asked] * texts).sum(-1) / model.temperature.detach()
    torch.testing.assert_close(found.scores, expected, equal_nan=True)
    assert found.maps.shape == (4, *SHAPE) and found.maps.min() >= 0
    assert not found.maps[2].any() and found.level_shares[2].isnan().all()
    torch.testing.assert_close(found.level_shares[[0, 1, 3]].sum(1), torch.ones(3))


def test_attention_is_that_of_the_pooling_and_lies_on_the_organ(model):
    levels, covered = torch.randn(3, 20, 8), torch.zeros(20, dtype=torch.bool)
    covered[[2, 5, 17]] = True
    found = token_heat(model, levels, covered, 1)
    tokens = levels[:, covered].flatten(0, 1)[None]
    query = model.pooling.query[None, 1:2]
    expected = model.pooling.attention(query, tokens, tokens)[1]
    torch.testing.assert_close(found.heat[:, covered].flatten(), expected.detach().flatten())
    assert not found.heat[:, ~covered].any() and found.score.isnan()
    image, mask = study()
    maps = organ_heat(model, image, mask, organs=[0], window=None, multiple=PATCH).maps[0]
    assert not maps[:, :, 10:].any() and maps[2:4, 2:6, 4:8].min() > 0


def test_heat_finds_the_token_that_speaks_for_a_text(model):
    """Values of one token alone point along the text, so only it may have heat."""
    pool = model.pooling
    with torch.no_grad():
        pool.attention.in_proj_weight.zero_()
        pool.attention.in_proj_weight[16:] = torch.eye(8)
        pool.attention.in_proj_bias.zero_()
        pool.attention.out_proj.weight.copy_(torch.eye(8))
        pool.projections[0].weight.copy_(torch.eye(4, 8))
        pool.projections[0].bias.zero_()
    levels = torch.zeros(3, 20, 8)
    levels[:, :, 1] = 1.0
    levels[1, 7, 0] = 1.0
    covered = torch.ones(20, dtype=torch.bool)
    text = torch.tensor([1.0, 0.0, 0.0, 0.0])
    found = token_heat(model, levels, covered, 0, text=text)
    assert found.heat[1, 7] > 0 and found.heat.count_nonzero() == 1
    assert token_heat(model, levels, covered, 0, text=-text).heat.count_nonzero() == 59


def test_heat_works_in_inference_mode_and_leaves_no_gradient(model):
    image, mask = study()
    settings = {"organs": [0], "texts": torch.ones(1, 4), "window": None, "multiple": PATCH}
    outside = organ_heat(model, image, mask, **settings)
    with torch.inference_mode():
        inside = organ_heat(model, image, mask, **settings)
    assert torch.equal(outside.maps, inside.maps)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_what_cannot_be_mapped_is_said(model):
    image, mask = study()
    settings = {"window": None, "multiple": PATCH}
    with pytest.raises(ValueError, match=r"organs are \[3\], the model's go from 0 to 2"):
        organ_heat(model, image, mask, organs=[3], **settings)
    with pytest.raises(ValueError, match="1 texts came for 2 organs"):
        organ_heat(model, image, mask, organs=[0, 1], texts=torch.ones(1, 4), **settings)
    with pytest.raises(ValueError, match="training mode"):
        organ_heat(model.train(), image, mask, organs=[0], **settings)
