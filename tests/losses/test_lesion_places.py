"""Losses of lesions and places: hand-worked numbers, equal texts, skipped and hard negatives."""

import math

import pytest
import torch
import torch.nn.functional as F

from medvlp.losses.lesion_places import HardNegativeLoss, PlaceClipLoss
from medvlp.losses.row_losses import RankedRows, SkipTopRows, SmoothedRows
from medvlp.types import Tokens, TwoTowerOutput
from tests.distributed.ranks import run_ranks
from tests.losses.rank_losses import loss_and_gradients, unit_rows

OWN = torch.eye(3, dtype=torch.bool)
LOGITS = torch.tensor([[2.0, 1.0, 0.0], [0.0, 1.0, 3.0], [1.0, 0.0, 1.5]])


def output_of(lesion: torch.Tensor, text: torch.Tensor) -> TwoTowerOutput:
    return TwoTowerOutput(
        image_embedding=lesion, text_embedding=text, logit_scale=torch.tensor([1.0])
    )


def test_ranked_rows_by_hand() -> None:
    log = LOGITS.log_softmax(1)
    by_hand = -(0.7 * log[0, 0] + 0.3 * log[0, 1] + 0.7 * log[1, 1] + 0.3 * log[1, 2])
    by_hand = by_hand - (0.7 * log[2, 2] + 0.3 * log[2, 0])
    torch.testing.assert_close(RankedRows([0.7, 0.3])(LOGITS, OWN), by_hand / 3)


def test_skipped_columns_leave_the_row_and_stay_in_the_published_one() -> None:
    ours = SkipTopRows(1, 0.1)(LOGITS, OWN)
    kept = torch.tensor([[2.0, 0.0], [1.0, 0.0], [1.5, 0.0]]).log_softmax(1)
    torch.testing.assert_close(ours, -(0.9 * kept[:, 0] + 0.1 * kept[:, 1]).mean())
    log = LOGITS.log_softmax(1)
    right, left = log.diagonal(), log[[0, 1, 2], [2, 0, 1]]
    published = SkipTopRows(1, 0.1, compat="published")(LOGITS, OWN)
    torch.testing.assert_close(published, -(0.9 * right + 0.05 * left).mean())


def test_a_skipped_column_has_no_gradient() -> None:
    logits = LOGITS.clone().requires_grad_()
    SkipTopRows(1)(logits, OWN).backward()
    assert logits.grad is not None
    skipped = logits.grad[[0, 1, 2], [1, 2, 0]]
    assert torch.equal(skipped, torch.zeros(3)) and int(logits.grad.count_nonzero()) == 6
    everything = SkipTopRows(2)(LOGITS, OWN)
    assert everything.item() == pytest.approx(0.0)  # nothing is left to tell apart


@pytest.mark.parametrize(
    "rows", [SmoothedRows(), SmoothedRows(0.1), SkipTopRows(1), RankedRows([1.0])]
)
def test_equal_texts_share_the_target(rows: torch.nn.Module) -> None:
    lesion, text = unit_rows(3, 4, 0), unit_rows(3, 4, 1)
    text = torch.stack([text[0], text[1], text[0]])
    tokens = Tokens(torch.tensor([[1, 2], [1, 3], [1, 2]]), torch.ones(3, 2, dtype=torch.bool))
    positives = torch.tensor([[1, 0, 1], [0, 1, 0], [1, 0, 1]]).bool()
    logits = math.e * lesion @ text.T
    found = PlaceClipLoss(rows)(output_of(lesion, text), {"tokens": tokens})["total"]
    torch.testing.assert_close(found, (rows(logits, positives) + rows(logits.T, positives)) / 2)
    apart = PlaceClipLoss(rows, merge_texts=False)(output_of(lesion, text), {})["total"]
    # plain cross entropy does not mind: equal texts score alike
    assert torch.isclose(found, apart) != isinstance(rows, SkipTopRows)
    caption = {"text_caption": torch.tensor([5, 6, 5])}
    assert torch.equal(found, PlaceClipLoss(rows)(output_of(lesion, text), caption)["total"])


def test_ranks_together_are_one_process() -> None:
    world, local = 2, 3
    lesion, text = unit_rows(world * local, 5, 0), unit_rows(world * local, 5, 1)
    caption = torch.tensor([1, 2, 3, 1, 4, 5])
    scale = torch.tensor([1.5])
    parts = [
        {"image": a, "text": b, "logit_scale": scale}
        for a, b in zip(lesion.chunk(world), text.chunk(world), strict=True)
    ]
    batches = [{"text_caption": part} for part in caption.chunk(world)]
    loss = PlaceClipLoss(SkipTopRows(2), across_ranks=True)
    whole = {"image": lesion, "text": text, "logit_scale": scale}
    single = loss_and_gradients(0, loss, [whole], [{"text_caption": caption}])
    found = run_ranks(loss_and_gradients, world, loss, parts, batches)
    for key in ("loss", "logit_scale"):
        mean = torch.stack([result[key] for result in found]).mean(0)
        torch.testing.assert_close(mean, single[key], rtol=0, atol=1e-6)
    for key in ("image", "text"):
        averaged = torch.cat([result[key] for result in found]) / world
        torch.testing.assert_close(averaged, single[key], rtol=0, atol=1e-6)


def test_hard_negatives_by_hand() -> None:
    output = output_of(torch.eye(2), torch.eye(2))
    wrong = torch.tensor([[[0.5, 0.0], [2.0, 0.0], [0.2, 0.0]], [[0.0, 0.1]] * 3])
    output["negative_embedding"] = wrong
    semi = HardNegativeLoss(semi_hard=True, top_k=2).logits(output) / math.e
    torch.testing.assert_close(semi, torch.tensor([[1.0, 0.5, 0.2], [1.0, 0.1, 0.1]]))
    hard = HardNegativeLoss(semi_hard=False)  # as published one less than the batch
    logits = hard.logits(output)
    torch.testing.assert_close(logits / math.e, torch.tensor([[1.0, 2.0], [1.0, 0.1]]))
    by_hand = F.cross_entropy(logits, torch.tensor([0, 0]))
    assert torch.equal(hard(output, {})["total"], by_hand)


def test_wrong_use_says_what_to_do() -> None:
    output = output_of(unit_rows(3, 4, 0), unit_rows(3, 4, 1))
    with pytest.raises(ValueError, match=r"5 best wrong texts .* a row has 2; raise data.batch"):
        PlaceClipLoss(SkipTopRows(5), merge_texts=False)(output, {})
    assert PlaceClipLoss(SkipTopRows(5), merge_texts=False).eval()(output, {})["total"].isfinite()
    with pytest.raises(ValueError, match="does not say which texts are equal"):
        PlaceClipLoss(SmoothedRows())(output, {})
    with pytest.raises(ValueError, match="has no negatives"):
        HardNegativeLoss()(output, {})
    output["negative_embedding"] = torch.zeros(3, 1, 4)
    with pytest.raises(ValueError, match="2 of 1 negatives"):
        HardNegativeLoss()(output, {})
    for wrong in (lambda: SkipTopRows(-1), lambda: SmoothedRows(1.0), lambda: RankedRows([])):
        with pytest.raises(ValueError, match="expected"):
            wrong()
