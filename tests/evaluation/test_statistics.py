import numpy as np
import pytest
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    balanced_accuracy_score,
    brier_score_loss,
    f1_score,
    precision_score,
    recall_score,
    roc_auc_score,
)

from medvlp.evaluation.statistics import (
    calibration_metrics,
    closest_corner_threshold,
    confusion_metrics,
    figure,
    patient_weights,
    ranking_metrics,
    skill,
)


@pytest.fixture(params=[0, 1, 2], ids=["distinct", "tied", "constant"])
def sample(request):
    rng = np.random.default_rng(request.param)
    labels = rng.random(80) < 0.3
    scores = np.clip(rng.normal(0.4 + 0.2 * labels, 0.2), 0, 1)
    scores = [scores, np.round(scores, 1), np.full(80, 0.5)][request.param]
    patients = [f"p{k}" for k in rng.integers(0, 30, 80)]
    return labels, scores, patient_weights(patients, 20, seed=5)


def test_ranking_metrics_equal_scikit_learn_with_sample_weights(sample):
    labels, scores, weights = sample
    auroc, ap = ranking_metrics(labels, scores, weights)
    expected = [roc_auc_score(labels, scores, sample_weight=w) for w in weights]
    np.testing.assert_allclose(auroc, expected, rtol=0, atol=1e-12)
    expected = [average_precision_score(labels, scores, sample_weight=w) for w in weights]
    np.testing.assert_allclose(ap, expected, rtol=0, atol=1e-12)


def test_confusion_metrics_equal_scikit_learn_with_sample_weights(sample):
    labels, scores, weights = sample
    decisions = scores > 0.5
    values = confusion_metrics(labels, decisions, weights)
    references = {
        "accuracy": accuracy_score,
        "balanced_accuracy": balanced_accuracy_score,
        "f1_weighted": lambda *a, **k: f1_score(*a, average="weighted", zero_division=0, **k),
        "recall": recall_score,
        "precision": lambda *a, **k: precision_score(*a, zero_division=0, **k),
    }
    for name, reference in references.items():
        expected = [reference(labels, decisions, sample_weight=w) for w in weights]
        np.testing.assert_allclose(values[name], expected, rtol=0, atol=1e-12, err_msg=name)


def test_calibration_by_hand_and_against_scikit_learn(sample):
    labels = np.array([True, False, True, False])
    scores = np.array([0.91, 0.95, 0.15, 0.15])
    ece, brier = calibration_metrics(labels, scores, np.ones((1, 4)))
    # last bin: mean score 0.93, half positive; second bin: 0.15 against one half
    assert ece[0] == pytest.approx((2 * 0.43 + 2 * 0.35) / 4)
    assert brier[0] == pytest.approx((0.09**2 + 0.95**2 + 0.85**2 + 0.15**2) / 4)
    labels, scores, weights = sample
    _, brier = calibration_metrics(labels, scores, weights)
    expected = [brier_score_loss(labels, scores, sample_weight=w) for w in weights]
    np.testing.assert_allclose(brier, expected, rtol=0, atol=1e-12)


def test_auroc_and_ap_by_hand():
    labels = np.array([True, False, True, False])
    scores = np.array([0.9, 0.8, 0.7, 0.1])
    auroc, ap = ranking_metrics(labels, scores, np.ones((1, 4)))
    assert auroc[0] == 0.75  # one of four pairs is in the wrong order
    assert ap[0] == pytest.approx((1 + 2 / 3) / 2)
    assert skill(ap, np.array([0.5]))[0] == pytest.approx(2 * ap[0] - 1)


def test_resample_without_positives_is_left_out_of_the_interval():
    labels = np.array([True, False, False])
    weights = np.array([[1.0, 1.0, 1.0], [0.0, 2.0, 1.0], [1.0, 2.0, 0.0]])
    auroc, ap = ranking_metrics(labels, np.array([0.9, 0.5, 0.1]), weights)
    assert np.isnan(auroc[1]) and np.isnan(ap[1])
    result = figure(auroc)
    assert (result.value, result.low, result.high) == (1.0, 1.0, 1.0)


def test_patients_are_drawn_whole():
    weights = patient_weights(["a", "b", "a", "c"], 200, seed=0)
    np.testing.assert_array_equal(weights[:, 0], weights[:, 2])
    np.testing.assert_array_equal(weights[:, [0, 1, 3]].sum(axis=1), np.full(200, 3.0))
    np.testing.assert_array_equal(weights, patient_weights(["a", "b", "a", "c"], 200, seed=0))


def test_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    hits = 0
    for trial in range(100):
        labels = rng.random(150) < 0.4
        scores = rng.normal(labels * 1.0, 1.0)  # true AUROC: Phi(1 / sqrt 2) = 0.7602
        weights = patient_weights([str(k) for k in range(150)], 300, seed=trial)
        auroc, _ = ranking_metrics(labels, scores, weights)
        low, high = np.quantile(auroc, [0.025, 0.975])
        hits += low <= 0.7602 <= high
    assert 88 <= hits <= 100


def test_threshold_is_the_last_minimiser():
    labels = np.array([False, True])
    # every threshold from 0.2 up to below 0.8 separates perfectly; 79/99 is the last on the grid
    assert closest_corner_threshold(labels, np.array([0.2, 0.8])) == pytest.approx(79 / 99)
