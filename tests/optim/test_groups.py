"""The published rule of what is decayed."""

from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import nn

from medvlp.checkpoints.adapter import to_published
from medvlp.checkpoints.unimed_clip import UNIMED_CLIP
from medvlp.models.two_tower import TwoTower
from medvlp.optim.groups import decay_groups

CONFIGS = Path(__file__).parents[2] / "conf" / "model"


class _Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, 4))
        self.norm = nn.LayerNorm(4)
        self.linear = nn.Linear(4, 4)
        self.position_bias = nn.Parameter(torch.zeros(2, 2))
        self.logit_scale = nn.Parameter(torch.zeros(1))
        self.pos_embed = nn.Parameter(torch.zeros(1, 4), requires_grad=False)


def _names(model: nn.Module, parameters: list[nn.Parameter]) -> list[str]:
    name_of = {id(parameter): name for name, parameter in model.named_parameters()}
    return [name_of[id(parameter)] for parameter in parameters]


def test_vectors_named_parts_and_frozen_parameters_are_not_decayed():
    model = _Model()
    kept, decayed = decay_groups(model)
    assert _names(model, decayed["params"]) == ["cls_token", "linear.weight"]
    assert _names(model, kept["params"]) == [
        "position_bias",
        "logit_scale",
        "norm.weight",
        "norm.bias",
        "linear.bias",
    ]
    assert kept["weight_decay"] == 0.0 and "weight_decay" not in decayed


def test_the_name_parts_are_a_choice():
    model = _Model()
    _, decayed = decay_groups(model, no_decay=["cls_token"])
    assert _names(model, decayed["params"]) == ["position_bias", "linear.weight"]


def test_a_frozen_model_is_refused():
    with pytest.raises(ValueError, match="no trainable parameter"):
        decay_groups(nn.Linear(2, 2).requires_grad_(False))


@pytest.mark.parametrize("name", ["vit_b16", "vit_l14_336_base_text", "vit_l14_336_large_text"])
def test_unimed_clip_decays_what_its_published_names_say(name: str) -> None:
    """There: nothing of one axis, nothing with bn, ln, bias or logit_scale in its name."""
    tree = OmegaConf.load(CONFIGS / f"unimed_clip_{name}.yaml")
    with torch.device("meta"):
        model: TwoTower = instantiate(tree.model, _convert_="all")
    published = to_published(model.state_dict(), UNIMED_CLIP)
    expected = {
        ours
        for ours, (theirs, weight) in zip(model.state_dict(), published.items(), strict=True)
        if weight.ndim >= 2 and not any(part in theirs for part in ("bn", "ln", "bias"))
    }
    _, decayed = decay_groups(model)
    assert set(_names(model, decayed["params"])) == expected
