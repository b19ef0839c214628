import random

import numpy as np
import pytest

from medvlp.data.conversation import Conversations
from medvlp.data.plain_report import PlainReport
from medvlp.data.random_sentences import RandomSentences, random_sentences
from medvlp.data.statements import statements_of

REPORT = "Lungs are clear. No effusion. A 7 mm nodule. Heart normal. Aorta normal"


class Words:
    """Counts words and two special tokens."""

    def count(self, text: str) -> int:
        return len(text.split()) + 2


def cut(budget: int, seed: int = 0) -> list[str]:
    chance = random.Random(seed)
    return random_sentences(REPORT, budget, Words().count, chance).split(".")


def test_a_report_that_fits_stays_and_draws_nothing():
    chance = random.Random(0)
    before = chance.getstate()
    assert random_sentences(REPORT, 15, Words().count, chance) == REPORT  # 13 words
    assert chance.getstate() == before


def test_the_first_sentence_is_free_and_each_other_costs_two_special_tokens():
    # "No effusion", "Heart normal", "Aorta normal" cost 4 each, the nodule 6: two of them fit in 10
    for seed in range(20):
        first, *others = cut(10, seed)
        assert first == "Lungs are clear"
        assert len(others) == len(set(others)) == 2
        assert sum(Words().count(part) for part in others) <= 10
    assert cut(3) == ["Lungs are clear"]
    assert len({tuple(cut(10, seed)) for seed in range(20)}) > 3


def test_samples_draw_from_their_own_generator():
    sampler = PlainReport(cut=RandomSentences(Words(), budget=10))

    def text(seed: int) -> str:
        (unit,) = sampler({"findings": REPORT}, np.random.default_rng(seed))
        assert set(unit.statements) < set(statements_of([REPORT])) and len(unit.statements) == 3
        return unit.text

    assert text(1) == text(1)
    assert len({text(seed) for seed in range(10)}) > 3
    (whole,) = PlainReport(cut=RandomSentences(Words()))({"f": REPORT}, np.random.default_rng(0))
    assert whole.text == REPORT and whole.statements == statements_of([REPORT])


def test_what_cannot_be_cut_is_said():
    with pytest.raises(ValueError, match="give RandomSentences a tokenizer"):
        RandomSentences(None)("A. B.", np.random.default_rng(0))
    with pytest.raises(ValueError, match=r"leave out data\.texts\.answer\.cut"):
        Conversations(answer=PlainReport(cut=RandomSentences(Words())))
