"""Lesions at one place each, drawn by their places, described by their texts."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medvlp.data.batching import SampleFacts
from medvlp.data.lesion_batches import CoarseBatches, FineBatches, LesionBatches
from medvlp.data.lesion_texts import PlaceText
from medvlp.data.sampling import EachPlace, GlobalBatchSampler, SampleKey, sample_generator

TREE = {
    "Chest": {"A": {"x": "Ax", "y": "Ay"}, "B": {"x": "Bx"}},
    "Pelvis": {"C": {"y": "Cy"}},
}
PLACES = [("s/1", "A", "x"), ("s/1", "A", "y"), ("s/2", "B", "x"), ("t/1", "C", "y")]


@pytest.fixture
def tree(tmp_path: Path) -> str:
    path = tmp_path / "places.json"
    path.write_text(json.dumps(TREE))
    return str(path)


def facts(places: list[tuple[str, str, str]] = PLACES) -> SampleFacts:
    ones = np.ones(len(places), np.int64)
    return SampleFacts(ones, ones, "digest", places)


def sampler(batching: LesionBatches, **options: Any) -> GlobalBatchSampler:
    usual: dict[str, Any] = {"batch_size": 2, "shuffle": True, "drop_last": True, "seed": 3}
    return GlobalBatchSampler(facts(), batching=batching, **(usual | options))


def test_an_epoch_is_drawn_and_goes_on_where_it_stopped(tree: str) -> None:
    whole = sampler(CoarseBatches(tree, samples_per_word=3))
    batches = list(whole)
    assert len(batches) == len(whole) == 4  # 3 words times 3, in twos
    for batch in batches:
        assert len({PLACES[key.sample][1] for key in batch}) == 2
    whole.first_batch = 2
    assert list(whole) == batches[2:]
    halves = [
        sampler(CoarseBatches(tree, samples_per_word=3), rank=r, world_size=2) for r in (0, 1)
    ]
    both = [[*left, *right] for left, right in zip(*halves, strict=True)]
    assert both == batches
    whole.set_epoch(1)
    whole.first_batch = 0
    assert list(whole) != batches


def test_a_lesion_looks_anew_each_time_it_is_drawn() -> None:
    draws = {sample_generator(0, SampleKey(0, 1, batch)).random() for batch in range(3)}
    assert len(draws) == 3
    assert sample_generator(0, SampleKey(0, 1)).random() in draws


def test_an_evaluation_shows_every_lesion_once(tree: str) -> None:
    plain = sampler(CoarseBatches(tree), shuffle=False, drop_last=False, batch_size=3)
    assert [[key.sample for key in batch] for batch in plain] == [[0, 1, 2], [3]]


def test_fine_batches_follow_the_coarse_stage(
    tree: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    table = tmp_path / "predictions.csv"
    table.write_text('sample_id,coarse_labels\ns/1,"C,A"\ns/2,C\n')
    batching = FineBatches(tree, predictions=str(table), related=1.0, batches_per_epoch=30)
    with caplog.at_level(logging.WARNING):
        batches = list(sampler(batching, batch_size=3))
    assert "1 of 3 lesions have no prediction" in caplog.text
    drawn = [{PLACES[key.sample][1:] for key in batch} for batch in batches]
    assert len(drawn) == 30 and {("A", "x"), ("A", "y"), ("C", "y")} in drawn
    assert batching.describe()["related"] == 1.0
    table.write_text("sample_id,coarse_labels\nu/1,C\n")
    with pytest.raises(ValueError, match="none of the 3 lesions: its first is u/1"):
        sampler(FineBatches(tree, predictions=str(table)))


def test_batches_that_cannot_be_drawn(tree: str) -> None:
    with pytest.raises(ValueError, match="a batch of 4 needs as many coarse places"):
        sampler(CoarseBatches(tree), batch_size=4)
    with pytest.raises(ValueError, match="a batch of 5 needs as many pairs"):
        sampler(FineBatches(tree), batch_size=5)
    with pytest.raises(ValueError, match="EachPlace"):
        GlobalBatchSampler(4, 2, shuffle=True, drop_last=True, batching=CoarseBatches(tree))
    with pytest.raises(ValueError, match="samples_per_word 0"):
        CoarseBatches(tree, samples_per_word=0)
    with pytest.raises(ValueError, match="expected a share"):
        FineBatches(tree, related=1.5)


def test_every_place_of_a_lesion_is_a_sample() -> None:
    row = {"lesion_id": "1", "place": "Ax,Bx", "coarse": "A,B", "fine": "x,x"}
    unknown = {"lesion_id": "2", "place": "", "coarse": "", "fine": ""}
    study = {"study_id": "s", "scans": [{}], "lesions": [row, unknown]}
    first, second = EachPlace().samples(study)
    assert (first.sample_id, second.sample_id) == ("s/1#0", "s/1#1")
    assert second.target == {"lesion_id": "1", "place": "Bx", "coarse": "B", "fine": "x"}


def test_the_text_of_a_lesion_is_the_description_of_its_place(tree: str, tmp_path: Path) -> None:
    texts = tmp_path / "texts.json"
    texts.write_text(json.dumps({word: f"in {word}" for word in "ABCxy"}))
    generator = np.random.default_rng(0)
    coarse, fine = (PlaceText(level, tree, str(texts)) for level in ("coarse", "fine"))
    target = {"coarse": "B", "fine": "x"}
    (told,) = coarse.about({}, target, generator, training=True)
    assert told.text == "in B"
    (told,) = fine.about({}, target, generator, training=False)
    assert told.text == "in x" and told.caption >= 0
    assert fine.about({}, {"coarse": "", "fine": ""}, generator, training=True) == []
    assert fine.has_texts({"lesions": [target]}) and not fine.has_texts({"lesions": []})
    with pytest.raises(ValueError, match="without a description of 'q'"):
        coarse.about({}, {"coarse": "q"}, generator, training=True)
