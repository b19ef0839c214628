"""Validation, test and prediction of a system, on one process."""

import warnings

import pytest

from tests.systems.tiny import (
    MeanScore,
    ignore_advice,
    loader,
    make_batch,
    make_system,
    make_trainer,
)

BATCHES = [make_batch(step) for step in range(2)]


@pytest.fixture(autouse=True)
def _quiet():
    with warnings.catch_warnings():
        ignore_advice()
        yield


def test_a_test_logs_figures_under_the_name_and_keeps_the_results():
    system = make_system(evaluations={"mean": MeanScore(), "again": MeanScore()})
    (figures,) = make_trainer().test(system, loader(BATCHES), verbose=False)
    assert set(figures) == {
        f"test/{name}/{figure}" for name in ("mean", "again") for figure in ("mean", "num_samples")
    }
    assert figures["test/mean/num_samples"] == 16
    assert figures["test/mean/mean"] == figures["test/again/mean"]
    assert list(system.results) == ["mean", "again"]


def test_validation_during_training_sees_the_weights_of_that_moment():
    system = make_system(evaluations={"mean": MeanScore()})
    (before,) = make_trainer().validate(system, loader(BATCHES), verbose=False)
    trainer = make_trainer()
    trainer.fit(system, loader(BATCHES), loader(BATCHES))
    assert float(trainer.callback_metrics["val/mean/mean"]) != before["val/mean/mean"]


def test_prediction_gives_each_study_its_own_probabilities():
    system = make_system(evaluations={"mean": MeanScore()})
    predictions = make_trainer().predict(system, loader(BATCHES))
    assert predictions is not None
    assert [p["sample_id"] for p in predictions] == [batch["sample_id"] for batch in BATCHES]
    assert all(len(p["probabilities"]) == 8 and p["class_names"] == ["mean"] for p in predictions)
    system.evaluations["mean"].reset()
    (figures,) = make_trainer().test(system, loader(BATCHES), verbose=False)
    flat = [row[0] for p in predictions for row in p["probabilities"]]
    assert sum(flat) / 16 == pytest.approx(figures["test/mean/mean"], abs=1e-4)


def test_without_evaluations_a_test_is_refused_and_validation_does_nothing():
    with pytest.raises(ValueError, match="nothing to evaluate"):
        make_trainer().test(make_system(), loader(BATCHES), verbose=False)
    assert make_trainer().validate(make_system(), loader(BATCHES), verbose=False) == [{}]
