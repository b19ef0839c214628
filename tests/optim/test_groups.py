"""The published rule of what is decayed."""

import pytest
import torch
from torch import nn

from medvlp.optim.groups import decay_groups


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
