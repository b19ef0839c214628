import pytest
import torch

from medvlp.bench import generation
from medvlp.bench.generation import build_model, draw, measure

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(generation, "SIZE", (8, 32, 32))
    monkeypatch.setattr(generation, "VOCABULARY", 50)


def test_both_ways_write_the_same_and_are_timed():
    model = build_model(24, 1)
    questions = draw(model, 3, CPU)
    mask = questions.prompts.attention_mask
    assert len(set(mask.sum(1).tolist())) > 1 and bool(mask[:, -1].all())
    alone, together = measure(model, questions, 2, 4, 1)
    assert (alone["questions"], together["questions"]) == ("one by one", "2 at once")
    assert alone["ratio by the clock"] == 1 and together["tokens/s"] > 0


def test_answers_that_differ_stop_the_benchmark(monkeypatch):
    monkeypatch.setattr(
        generation, "answer", lambda model, questions, batch, tokens: torch.full((2, 3), batch)
    )
    model = build_model(24, 1)
    with pytest.raises(RuntimeError, match="2 of 2 answers differ"):
        measure(model, draw(model, 2, CPU), 2, 3, 1)
