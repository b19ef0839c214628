"""CLIP and SigLIP: hand-worked numbers, two and three ranks against one, refusals."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from medvlp.losses.contrastive import ClipLoss, SigLipLoss
from medvlp.types import TwoTowerOutput
from tests.distributed.ranks import run_ranks
from tests.losses.rank_losses import loss_and_gradients, many_losses, unit_rows

WORLD, LOCAL, WIDTH = 3, 2, 5
CLIP = {
    f"local={local},grad={grad}": ClipLoss(local_loss=local, gather_with_grad=grad)
    for local in (False, True)
    for grad in (False, True)
}
SIGLIP = {how: SigLipLoss(exchange=how) for how in ("bidir", "shift", "reduce", "gather")}
LOSSES = CLIP | SIGLIP


def _whole() -> dict[str, Tensor]:
    return {
        "image": unit_rows(WORLD * LOCAL, WIDTH, seed=1),
        "text": unit_rows(WORLD * LOCAL, WIDTH, seed=2),
        "logit_scale": torch.tensor([1.5]),
        "logit_bias": torch.tensor([-2.0]),
    }


def _parts() -> list[dict[str, Tensor]]:
    whole = _whole()
    cut = {name: whole[name].chunk(WORLD) for name in ("image", "text")}
    shared = {name: whole[name] for name in ("logit_scale", "logit_bias")}
    return [{name: rows[rank] for name, rows in cut.items()} | shared for rank in range(WORLD)]


def _pair(image: Tensor, text: Tensor, bias: float | None = None) -> TwoTowerOutput:
    output = TwoTowerOutput(image_embedding=image, text_embedding=text, logit_scale=torch.zeros(1))
    if bias is not None:
        output["logit_bias"] = torch.tensor([bias])
    return output


@pytest.fixture(scope="module")
def ranks() -> dict[str, list[dict[str, Tensor]]]:
    jobs = [(loss, _parts(), [{}] * WORLD) for loss in LOSSES.values()]
    results = run_ranks(many_losses, WORLD, jobs)
    return {name: [r[k] for r in results] for k, name in enumerate(LOSSES)}


@pytest.mark.parametrize("name", [n for n in LOSSES if "grad=False" not in n])
def test_averaged_over_ranks_it_is_the_loss_of_one_process(ranks, name):
    loss: Any = LOSSES[name]
    single = loss_and_gradients(0, loss, [_whole()], [{}])
    found = ranks[name]
    mean = {key: torch.stack([r[key] for r in found]).mean(0) for key in ("loss", "logit_scale")}
    torch.testing.assert_close(mean["loss"], single["loss"], rtol=0, atol=1e-6)
    torch.testing.assert_close(mean["logit_scale"], single["logit_scale"], rtol=0, atol=1e-6)
    for key in ("image", "text"):
        averaged = torch.cat([r[key] for r in found]) / WORLD
        torch.testing.assert_close(averaged, single[key], rtol=0, atol=1e-6)


def test_constant_columns_give_a_share_of_the_gradient(ranks):
    found = ranks["local=False,grad=False"]
    single = loss_and_gradients(0, ClipLoss(), [_whole()], [{}])
    for rank, result in enumerate(found):
        rows = slice(rank * LOCAL, (rank + 1) * LOCAL)
        torch.testing.assert_close(result["loss"], single["loss"], rtol=0, atol=1e-6)
        torch.testing.assert_close(result["image"], single["image"][rows], rtol=0, atol=1e-6)


@pytest.mark.parametrize("how", ["shift", "reduce", "gather"])
def test_every_exchange_gives_the_same_loss_and_gradients(ranks, how):
    for result, reference in zip(ranks[how], ranks["bidir"], strict=True):
        torch.testing.assert_close(result, reference, rtol=0, atol=1e-6)


def test_sigmoid_loss_by_hand():
    output = _pair(torch.eye(2), torch.eye(2), bias=-1.0)
    # diagonal: log(1 + e^-(1 - 1)) = ln 2, elsewhere log(1 + e^(0 - 1)); sum over pairs / 2
    expected = math.log(2) + math.log1p(math.exp(-1))
    assert SigLipLoss()(output, {})["total"].item() == pytest.approx(expected, abs=1e-6)


def test_logits_stay_in_float32_under_autocast():
    image, text = unit_rows(4, 64, seed=3), unit_rows(4, 64, seed=4)
    exact = ClipLoss()(_pair(image, text), {})["total"]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(ClipLoss()(_pair(image, text), {})["total"], exact)


@pytest.mark.parametrize("loss", [ClipLoss(), SigLipLoss()])
def test_a_batch_of_one_is_refused_in_training_only(loss):
    output = _pair(torch.ones(1, 1), torch.ones(1, 1), bias=0.0)
    with pytest.raises(ValueError, match="needs at least two studies"):
        loss.train()(output, {})
    assert torch.isfinite(loss.eval()(output, {})["total"])


@pytest.mark.parametrize("text_study", [[1, 0], [0, 0], [0, 1, 1]])
def test_several_texts_of_a_study_are_refused(text_study):
    output = _pair(torch.eye(3)[:2], torch.eye(3)[: len(text_study)])
    batch: Any = {"text_study": torch.tensor(text_study)}
    with pytest.raises(ValueError, match="one text per study"):
        ClipLoss()(output, batch)


def test_the_sigmoid_loss_names_the_missing_bias():
    with pytest.raises(ValueError, match="logit_bias_init"):
        SigLipLoss()(_pair(torch.eye(2), torch.eye(2)), {})
