import math
from typing import Any

import torch
from torch import Tensor, nn

from medvlp.models.two_tower import TwoTower
from medvlp.types import Tokens


class Vision(nn.Module):
    def forward(self, image: Tensor, num_scans: Tensor) -> Tensor:
        return torch.stack([scans.mean((0, 1, 2, 3)) for scans in image.split(num_scans.tolist())])


class Text(nn.Module):
    def forward(self, tokens: Tokens) -> Tensor:
        return tokens.input_ids.float()


def make_model(**options: Any) -> TwoTower:
    options |= {"image_projection": nn.Linear(4, 3), "text_projection": nn.Linear(5, 3)}
    return TwoTower(Vision(), Text(), **options)


def batch() -> tuple[Tensor, Tensor, Tokens]:
    tokens = Tokens(torch.randint(0, 9, (2, 5)), torch.ones(2, 5, dtype=torch.bool))
    return torch.randn(3, 1, 2, 2, 4), torch.tensor([1, 2]), tokens


def test_embeddings_have_unit_length_and_the_scale_stays_in_log_space() -> None:
    output = make_model()(*batch())
    for name in ("image_embedding", "text_embedding"):
        assert output[name].shape == (2, 3)
        torch.testing.assert_close(output[name].norm(dim=-1), torch.ones(2))
    assert output["logit_scale"].shape == (1,)
    assert math.isclose(output["logit_scale"].item(), math.log(1 / 0.07), abs_tol=1e-5)
    assert "logit_bias" not in output


def test_a_bias_only_where_asked_for() -> None:
    model = make_model(logit_scale_init=math.log(10), logit_bias_init=-10.0)
    assert model(*batch())["logit_bias"].tolist() == [-10.0]
    assert "logit_bias" not in make_model().state_dict()


def test_a_second_scale_only_where_asked_for() -> None:
    model = make_model(second_logit_scale_init=2.5)
    assert model(*batch())["second_logit_scale"].tolist() == [2.5]
    assert "second_logit_scale" not in make_model()(*batch())
    assert "second_logit_scale" not in make_model().state_dict()


def test_the_scales_are_clamped_to_1_and_100_and_the_bias_is_not() -> None:
    model = make_model(logit_bias_init=-10.0, second_logit_scale_init=0.0)
    for value, clamped in ((-1.0, 0.0), (9.0, math.log(100)), (2.0, 2.0)):
        for scale in (model.logit_scale, model.second_logit_scale):
            with torch.no_grad():
                scale.fill_(value)
            model.clamp_logit_scale()
            assert math.isclose(scale.item(), clamped, rel_tol=1e-6)
    assert model.logit_bias.item() == -10.0
