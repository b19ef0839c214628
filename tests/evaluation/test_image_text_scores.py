"""Numbers worked out by hand; those of the published code are golden case clip_full."""

import math

import pytest
import torch

from medvlp.evaluation.image_text_scores import image_text_scores


@pytest.mark.parametrize(
    ("scoring", "expected"),
    [
        ("cosine", [0.6, 0.8]),  # of (3, 4) / 5 with the axes
        ("temperature", [1 / (1 + math.e**2), 1 / (1 + math.e**-2)]),  # of 6 and 8
        ("raw_image", [1 / (1 + math.e), 1 / (1 + math.e**-1)]),  # of 3 and 4
    ],
)
def test_scores_worked_out_by_hand(scoring, expected):
    image, texts = torch.tensor([[3.0, 4.0]]), torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    scores = image_text_scores(image, texts, torch.tensor(10.0).log(), scoring=scoring)
    torch.testing.assert_close(scores, torch.tensor([expected]))


def test_only_the_raw_image_sees_the_length_of_the_image_features_and_none_that_of_the_texts():
    generator = torch.Generator().manual_seed(0)
    image, texts = (torch.randn(3, 4, generator=generator) for _ in range(2))
    scale = torch.tensor([2.0])
    for scoring in ("temperature", "raw_image", "cosine"):
        before = image_text_scores(image, texts, scale, scoring=scoring)
        longer = image_text_scores(image, 5 * texts, scale, scoring=scoring)
        torch.testing.assert_close(longer, before)
        doubled = image_text_scores(2 * image, texts, scale, scoring=scoring)
        assert torch.allclose(doubled, before, atol=1e-6) == (scoring != "raw_image")
