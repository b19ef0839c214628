"""Figures of a choice among the classes of one set."""

import numpy as np
import pytest
from sklearn import metrics

from medvlp.evaluation import set_metrics as module
from medvlp.evaluation.set_metrics import resampled_metrics, set_metrics, set_seed, top_k


def test_figures_of_two_classes_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, 80)
    scores = rng.normal(size=(80, 2)).round(1).astype(np.float32)
    found = set_metrics(scores, truth, np.ones((1, 80)), two_class=True)
    choice, margin = scores.argmax(axis=1), scores[:, 1] - scores[:, 0]
    precision, prevalence = metrics.average_precision_score(truth, margin), truth.mean()
    expected = {
        "acc": metrics.accuracy_score(truth, choice),
        "balanced_acc": metrics.balanced_accuracy_score(truth, choice),
        "auc_roc": metrics.roc_auc_score(truth, margin),
        "ap": precision,
        "ap_skill": (precision - prevalence) / (1 - prevalence),
        "f1_score": metrics.f1_score(truth, choice),
        "precision_score": metrics.precision_score(truth, choice),
        "recall_score": metrics.recall_score(truth, choice),
    }
    assert {name: values[0] for name, values in found.items()} == pytest.approx(expected)


def test_the_first_of_equal_scores_is_chosen() -> None:
    scores = np.zeros((2, 3), np.float32)
    found = set_metrics(scores, np.array([0, 2]), np.ones((1, 2)), two_class=False)
    assert found["acc"][0] == 0.5
    assert found["balanced_acc"][0] == 0.5
    assert "top5_acc" not in found


def test_the_best_five_of_more_than_five_classes() -> None:
    scores = np.array([[6, 5, 4, 3, 2, 1], [6, 5, 4, 3, 2, 2]], np.float32)
    found = set_metrics(scores, np.array([4, 5]), np.ones((1, 2)), two_class=False)
    assert found["top5_acc"][0] == 0.5
    assert found["acc"][0] == 0.0
    assert top_k(scores, np.array([4, 5]), 6).all()


def test_one_class_alone_has_an_accuracy_but_no_auc() -> None:
    scores = np.array([[0.0, 1.0], [1.0, 0.0]], np.float32)
    found = set_metrics(scores, np.array([1, 1]), np.ones((1, 2)), two_class=True)
    assert found["acc"][0] == found["balanced_acc"][0] == 0.5
    assert np.isnan(found["auc_roc"][0])
    none = set_metrics(scores[1:], np.array([0]), np.ones((1, 1)), two_class=True)
    assert none["f1_score"][0] == none["precision_score"][0] == 0.0


def test_patients_are_resampled_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = np.eye(2, dtype=np.float32)[[0, 0, 0, 1, 1, 1]]
    truth = np.array([0, 0, 0, 0, 0, 0])  # patient a is right, patient b wrong
    found = resampled_metrics(
        scores, truth, list("aaabbb"), two_class=False, num_resamples=40, seed=1
    )
    assert found["acc"][0] == 0.5
    assert set(found["acc"][1:].tolist()) == {0.0, 0.5, 1.0}
    monkeypatch.setattr(module, "_WEIGHTS_PER_CHUNK", 60)  # ten resamples at once
    again = resampled_metrics(
        scores, truth, list("aaabbb"), two_class=False, num_resamples=40, seed=1
    )
    assert len(again["acc"]) == 41
    assert again["acc"][:11].tolist() != again["acc"][10:21].tolist()


def test_each_set_has_a_seed_of_its_own() -> None:
    assert len({set_seed(0, "a"), set_seed(0, "b"), set_seed(1, "a")}) == 3
