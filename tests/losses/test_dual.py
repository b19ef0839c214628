"""The loss of two image tokens: what it is made of, two ranks against one, refusals."""

from typing import Any

import pytest
import torch
from torch import Tensor

from medvlp.losses.contrastive import ClipLoss
from medvlp.losses.dual import DualClipLoss
from medvlp.types import TextKind, TwoTowerOutput
from tests.distributed.ranks import run_ranks
from tests.losses.rank_losses import loss_and_gradients, many_losses, unit_rows

WORLD, LOCAL, WIDTH = 2, 3, 5
LOSSES = [
    DualClipLoss(local_loss=local, gather_with_grad=True, report_weight=0.25)
    for local in (False, True)
]


def _parts(studies: int = WORLD * LOCAL) -> dict[str, Tensor]:
    image = unit_rows(2 * studies, WIDTH, seed=1).unflatten(0, (studies, 2))
    text = unit_rows(2 * studies, WIDTH, seed=2)
    scales = {"logit_scale": torch.tensor([1.5]), "second_logit_scale": torch.tensor([2.5])}
    return {"image": image, "text": text, **scales}


def _batch(studies: int, kinds: list[TextKind] | None = None) -> dict[str, Any]:
    kinds = kinds or [TextKind.IMPRESSION, TextKind.FINDINGS] * studies
    return {
        "text_kind": torch.tensor(kinds),
        "text_study": torch.arange(studies).repeat_interleave(2)[: len(kinds)],
        "study_id": [f"study{k}" for k in range(studies)],
    }


def _output(parts: dict[str, Tensor], *, image: Tensor | None = None) -> TwoTowerOutput:
    return TwoTowerOutput(
        image_embedding=parts["image"] if image is None else image,
        text_embedding=parts["text"],
        logit_scale=parts["logit_scale"],
        second_logit_scale=parts["second_logit_scale"],
    )


def test_it_is_two_clip_losses_each_at_its_scale():
    parts = _parts()
    image, text = parts["image"], parts["text"]
    short = ClipLoss().of_pairs(image[:, 0], text[::2], parts["logit_scale"])
    whole = ClipLoss().of_pairs(image[:, 1], text[1::2], parts["second_logit_scale"])
    losses = DualClipLoss(report_weight=0.25)(_output(parts), _batch(6))
    assert losses["sentence"] == short and losses["report"] == whole
    assert losses["total"].item() == pytest.approx((0.75 * short + 0.25 * whole).item())


def test_texts_are_told_apart_by_kind_and_study_in_whatever_order():
    parts, batch = _parts(), _batch(6)
    expected = DualClipLoss()(_output(parts), batch)["total"]
    order = torch.randperm(12)
    parts["text"] = parts["text"][order]
    batch |= {name: batch[name][order] for name in ("text_kind", "text_study")}
    torch.testing.assert_close(DualClipLoss()(_output(parts), batch)["total"], expected)


@pytest.fixture(scope="module")
def ranks() -> list[list[dict[str, Tensor]]]:
    whole = _parts()
    cut = {name: whole[name].chunk(WORLD) for name in ("image", "text")}
    scales = {name: whole[name] for name in ("logit_scale", "second_logit_scale")}
    parts = [{name: rows[rank] for name, rows in cut.items()} | scales for rank in range(WORLD)]
    return run_ranks(
        many_losses, WORLD, [(loss, parts, [_batch(LOCAL)] * WORLD) for loss in LOSSES]
    )


@pytest.mark.parametrize("index", range(len(LOSSES)))
def test_averaged_over_ranks_it_is_the_loss_of_one_process(ranks, index):
    single = loss_and_gradients(0, LOSSES[index], [_parts()], [_batch(WORLD * LOCAL)])
    found = [results[index] for results in ranks]
    for key in ("loss", "sentence", "report", "logit_scale", "second_logit_scale"):
        mean = torch.stack([result[key] for result in found]).mean(0)
        torch.testing.assert_close(mean, single[key], rtol=0, atol=1e-6)
    for key in ("image", "text"):
        averaged = torch.cat([result[key] for result in found]) / WORLD
        torch.testing.assert_close(averaged, single[key], rtol=0, atol=1e-6)


@pytest.mark.parametrize("token_axis", [True, False])
def test_one_token_learns_from_short_texts_alone_and_says_so_once(token_axis):
    parts, loss = _parts(), DualClipLoss()
    image = parts["image"][:, :1] if token_axis else parts["image"][:, 0]
    with pytest.warns(UserWarning, match="short texts alone"):
        losses = loss(_output(parts, image=image), _batch(6))
    assert losses["total"] == loss(_output(parts, image=image), _batch(6))["sentence"]
    assert "report" not in losses


@pytest.mark.parametrize(
    ("kinds", "message"),
    [
        ([TextKind.SENTENCE, TextKind.REPORT, TextKind.SENTENCE], "1 of 2 .*report or findings"),
        ([TextKind.REPORT, TextKind.FINDINGS] * 2, "2 of 2 .*sentence or impression"),
        (
            [TextKind.SENTENCE, TextKind.REPORT, TextKind.IMPRESSION, TextKind.SENTENCE],
            "1 of 2 .*sentence or impression text, first study1",
        ),
    ],
)
def test_a_study_without_exactly_one_text_of_each_kind_is_named(kinds, message):
    with pytest.raises(ValueError, match=message):
        DualClipLoss()(_output(_parts(2)), _batch(2, kinds))


def test_what_the_model_or_the_batch_lacks_is_named():
    parts, batch = _parts(2), _batch(2)
    with pytest.raises(ValueError, match=r"model\.second_logit_scale_init"):
        output = _output(parts)
        del output["second_logit_scale"]
        DualClipLoss()(output, batch)
    with pytest.raises(ValueError, match="3 image tokens"):
        DualClipLoss()(_output(parts, image=parts["image"][:, [0, 1, 1]]), batch)
    with pytest.raises(ValueError, match="lacks text_kind"):
        DualClipLoss()(_output(parts), {})
    with pytest.raises(ValueError, match="at least two studies"):
        DualClipLoss()(_output(_parts(1)), _batch(1))
    with pytest.raises(ValueError, match="a share"):
        DualClipLoss(report_weight=1.5)
