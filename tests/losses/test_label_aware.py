"""Soft targets: equal to CLIP without false negatives, hand-worked with them, ranks equal one."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from medvlp.data.caption_choice import MultiCaption
from medvlp.data.collate import ImageCollate
from medvlp.data.image_dataset import ImageSample
from medvlp.losses.contrastive import ClipLoss
from medvlp.losses.functional import match_statements
from medvlp.losses.label_aware import StatementClipLoss
from medvlp.types import Tokens, TwoTowerOutput
from tests.distributed.ranks import run_ranks
from tests.losses.rank_losses import loss_and_gradients, many_losses, unit_rows

WIDTH = 5
_TOKENS = Tokens(torch.ones(3, 1, dtype=torch.int64), torch.ones(3, 1, dtype=torch.bool))


def _batch(owners: list[int], texts: list[list[int]], studies: list[list[int]]) -> Any:
    return {
        "text_study": torch.tensor(owners),
        "text_statements": _padded(texts),
        "study_statements": _padded(studies),
    }


def _padded(rows: list[list[int]]) -> Tensor:
    width = max(len(row) for row in rows)
    return torch.tensor([row + [-1] * (width - len(row)) for row in rows])


# two ranks that differ in studies, texts, statements; text 7 is true of studies on both
RANK_BATCHES = [
    _batch([0, 1, 1], [[7], [8, 9], [4]], [[7, 8, 1], [8, 9, 4, 7]]),
    _batch([2, 0, 1, 2], [[5, 6, 7], [7], [11], [8]], [[7, 2], [9], [5, 6, 7, 8, 3]]),
]
WHOLE_BATCH = _batch(
    [0, 1, 1, 4, 2, 3, 4],
    [[7], [8, 9], [4], [5, 6, 7], [7], [11], [8]],
    [[7, 8, 1], [8, 9, 4, 7], [7, 2], [9], [5, 6, 7, 8, 3]],
)
WHOLE = {
    "image": unit_rows(5, WIDTH, seed=1),
    "text": unit_rows(7, WIDTH, seed=2),
    "logit_scale": torch.tensor([1.5]),
}
PARTS = [
    WHOLE | {"image": image, "text": text}
    for image, text in zip(WHOLE["image"].split([2, 3]), WHOLE["text"].split([3, 4]), strict=True)
]
LOSSES = [StatementClipLoss(local_loss=local, gather_with_grad=True) for local in (True, False)]


@pytest.fixture(scope="module")
def ranks() -> list[list[dict[str, Tensor]]]:
    results = run_ranks(many_losses, 2, [(loss, PARTS, RANK_BATCHES) for loss in LOSSES])
    return [[result[k] for result in results] for k in range(len(LOSSES))]


@pytest.mark.parametrize("which", [0, 1])
def test_two_ranks_equal_one_even_where_they_differ_in_size(ranks, which):
    single = loss_and_gradients(0, LOSSES[which], [WHOLE], [WHOLE_BATCH])
    found = ranks[which]
    for key in ("loss", "logit_scale"):
        mean = sum(result[key] for result in found) / 2
        torch.testing.assert_close(mean, single[key], rtol=0, atol=1e-6)
    for key in ("image", "text"):
        averaged = torch.cat([result[key] for result in found]) / 2
        torch.testing.assert_close(averaged, single[key], rtol=0, atol=1e-6)


def test_without_false_negatives_it_is_the_clip_loss():
    parts = [WHOLE | {"text": WHOLE["text"][:5]}]
    batch = _batch([0, 1, 2, 3, 4], [[k] for k in range(5)], [[k] for k in range(5)])
    found = loss_and_gradients(0, StatementClipLoss(), parts, [batch])
    torch.testing.assert_close(found, loss_and_gradients(0, ClipLoss(), parts, [batch]))


def test_identical_reports_share_the_target():
    output = TwoTowerOutput(
        image_embedding=torch.eye(2), text_embedding=torch.eye(2), logit_scale=torch.zeros(1)
    )
    batch = _batch([0, 1], [[3], [3]], [[3], [3]])
    # every row: mean over both columns of -log softmax([1, 0])
    expected = math.log(1 + math.e) - 0.5
    assert StatementClipLoss()(output, batch)["total"].item() == pytest.approx(expected, abs=1e-6)


def test_matches_equal_set_inclusion():
    generator = torch.Generator().manual_seed(0)
    texts = torch.randint(-1, 6, (40, 3), generator=generator)
    studies = torch.randint(-1, 6, (30, 5), generator=generator)
    expected = [
        [bool(said - {-1}) and said - {-1} <= set(report) for report in studies.tolist()]
        for said in map(set, texts.tolist())
    ]
    assert match_statements(texts, studies).tolist() == expected


def test_a_text_without_statements_is_true_of_its_own_study_only():
    texts, studies = torch.tensor([[-1]]), torch.tensor([[4], [-1]])
    assert match_statements(texts, studies).tolist() == [[False, False]]


def test_a_batch_without_statements_is_refused():
    output = TwoTowerOutput(
        image_embedding=torch.eye(2), text_embedding=torch.eye(2), logit_scale=torch.zeros(1)
    )
    batch: Any = {"text_study": torch.arange(2)}
    with pytest.raises(ValueError, match="text_statements"):
        StatementClipLoss()(output, batch)


def test_a_single_study_is_refused():
    output = TwoTowerOutput(
        image_embedding=torch.ones(1, 1), text_embedding=torch.ones(2, 1), logit_scale=torch.ones(1)
    )
    with pytest.raises(ValueError, match="needs at least two studies"):
        StatementClipLoss()(output, _batch([0, 0], [[1], [2]], [[1, 2]]))


def _captioned(field: str, seed: int) -> ImageSample:
    """Make an image of the text that a web shard stores for it."""
    sampler, sections = MultiCaption(), {"caption": field}
    return ImageSample(
        image=torch.zeros(3, 2, 2, dtype=torch.uint8),
        sample_id=f"{seed}",
        patient_id=f"{seed}",
        labels=[],
        texts=sampler(sections, np.random.default_rng(seed)),
        statements=sampler.statements(sections),
        metadata={},
    )


def test_captions_of_one_label_are_no_negatives_of_each_other():
    """Two images of a label show different captions; a third, native caption is true of its own."""
    label = "A CT of a kidney._radimagenet_A kidney on CT. It is enlarged._radimagenet_"
    samples = [_captioned(label, seed) for seed in range(5)]
    first, second = (
        next(s for s in samples if s.texts[0].text == text)
        for text in label.split("_radimagenet_")[:2]
    )
    third = _captioned("Axial CT: a cyst in the kidney (arrow).", 9)
    collate = ImageCollate(lambda texts: _TOKENS, "tiny")
    batch: Any = collate([first, second, third])
    image, text = unit_rows(3, WIDTH, seed=5), unit_rows(3, WIDTH, seed=6)
    scale = torch.tensor([1.0])
    output = TwoTowerOutput(image_embedding=image, text_embedding=text, logit_scale=scale)
    targets = torch.tensor([[0.5, 0.5, 0.0], [0.5, 0.5, 0.0], [0.0, 0.0, 1.0]])
    logits = scale.exp() * image @ text.T
    rows, columns = logits.log_softmax(1), logits.T.log_softmax(1)
    expected = -(targets * (rows + columns)).sum() / 6
    torch.testing.assert_close(StatementClipLoss()(output, batch)["total"], expected)
