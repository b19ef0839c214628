"""The loss of two image tokens: what it is made of, two ranks against one, refusals."""

from typing import Any

import pytest
import torch
from torch import Tensor

from medvlp.losses.contrastive import ClipLoss
from medvlp.losses.dual import DualTokenLoss
from medvlp.losses.label_aware import StatementClipLoss
from medvlp.types import TextKind, TwoTowerOutput
from tests.distributed.ranks import run_ranks
from tests.losses.rank_losses import loss_and_gradients, many_losses, unit_rows

WORLD, LOCAL, WIDTH = 2, 3, 5
LOSSES = [
    DualTokenLoss(ClipLoss(local_loss=False, gather_with_grad=True), report_weight=0.25),
    DualTokenLoss(ClipLoss(local_loss=True, gather_with_grad=True)),
    DualTokenLoss(StatementClipLoss()),
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
        "text_statements": torch.tensor([[0], [1]]).repeat(studies, 1)[: len(kinds)],
        "study_statements": torch.tensor([[0, 1]]).expand(studies, 2),
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
    losses = DualTokenLoss(ClipLoss(), report_weight=0.25)(_output(parts), _batch(6))
    assert losses["sentence"] == short and losses["report"] == whole
    assert losses["total"].item() == pytest.approx((0.75 * short + 0.25 * whole).item())


def test_texts_are_told_apart_by_kind_and_study_in_whatever_order():
    parts, batch = _parts(), _batch(6)
    expected = DualTokenLoss(ClipLoss())(_output(parts), batch)["total"]
    order = torch.randperm(12)
    parts["text"] = parts["text"][order]
    batch |= {name: batch[name][order] for name in ("text_kind", "text_study")}
    torch.testing.assert_close(DualTokenLoss(ClipLoss())(_output(parts), batch)["total"], expected)


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
    parts, loss = _parts(), DualTokenLoss(ClipLoss())
    image = parts["image"][:, :1] if token_axis else parts["image"][:, 0]
    with pytest.warns(UserWarning, match="short texts alone"):
        losses = loss(_output(parts, image=image), _batch(6))
    assert losses["total"] == loss(_output(parts, image=image), _batch(6))["sentence"]
    assert "report" not in losses


@pytest.mark.parametrize(
    ("kinds", "message"),
    [
        (
            [TextKind.SENTENCE, TextKind.REPORT, TextKind.SENTENCE],
            "1 of 2 .*report or findings text, first study1",
        ),
        ([TextKind.REPORT, TextKind.FINDINGS] * 2, "2 of 2 .*sentence or impression"),
    ],
)
def test_a_study_without_a_text_of_each_kind_is_named(kinds, message):
    with pytest.raises(ValueError, match=message):
        DualTokenLoss(ClipLoss())(_output(_parts(2)), _batch(2, kinds))


def test_several_short_texts_of_a_study_need_a_loss_that_takes_them():
    kinds = [TextKind.SENTENCE, TextKind.REPORT] * 2 + [TextKind.SENTENCE]
    batch = _batch(2, kinds) | {"text_study": torch.tensor([0, 0, 1, 1, 1])}
    batch["text_statements"] = torch.arange(5)[:, None]
    parts = _parts(2)
    parts["text"] = unit_rows(5, WIDTH, seed=3)
    assert DualTokenLoss(StatementClipLoss())(_output(parts), batch)["total"].isfinite()
    with pytest.raises(ValueError, match="one text per study"):
        DualTokenLoss(ClipLoss())(_output(parts), batch)


def test_what_the_model_or_the_batch_lacks_is_named():
    parts, batch = _parts(2), _batch(2)
    output = _output(parts)
    del output["second_logit_scale"]
    with pytest.raises(ValueError, match=r"model\.second_logit_scale_init"):
        DualTokenLoss(ClipLoss())(output, batch)
    with pytest.raises(ValueError, match="3 image tokens"):
        DualTokenLoss(ClipLoss())(_output(parts, image=parts["image"][:, [0, 1, 1]]), batch)
    with pytest.raises(ValueError, match="lacks text_kind"):
        DualTokenLoss(ClipLoss())(_output(parts), {})
    with pytest.raises(ValueError, match="at least two studies"):
        DualTokenLoss(ClipLoss())(_output(_parts(1)), _batch(1))
    with pytest.raises(ValueError, match="a share"):
        DualTokenLoss(ClipLoss(), report_weight=1.5)
