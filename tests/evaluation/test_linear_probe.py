"""Probes on features whose classes are known to be separable, or known not to be."""

import numpy as np
import pytest

from medvlp.evaluation.embedded_set import EmbeddedSet
from medvlp.evaluation.linear_probe import ProbePlan, probe
from medvlp.evaluation.probe_draws import Budget, draw
from medvlp.evaluation.probe_fit import Labelled, fit_probe

QUICK = ProbePlan(fractions=(0.1,), shots=(1, 4), draws=3, num_resamples=50)


def clusters(count: int, *, gap: float, seed: int, split: str, classes: int = 3) -> EmbeddedSet:
    """Draw samples around one corner for each class; with gap 0 there is nothing to learn."""
    generator = np.random.default_rng(seed)
    truth = np.arange(count) % classes
    features = generator.normal(size=(count, 8)) + gap * np.eye(8)[truth]
    names = [f"{split}{number}" for number in range(count)]
    return EmbeddedSet(
        features=features,
        labels=np.eye(classes, dtype=np.int64)[truth],
        label_names=[f"class {k}" for k in range(classes)],
        sample_ids=names,
        patient_ids=names,
        metadata=[{"kind": str(k)} for k in truth],
        recipe_hash="r",
    )


def splits_of(gap: float, classes: int = 3) -> dict[str, EmbeddedSet]:
    sizes = {"train": 120, "val": 60, "test": 90}
    return {
        split: clusters(count, gap=gap, seed=number, split=split, classes=classes)
        for number, (split, count) in enumerate(sizes.items())
    }


def test_more_labels_give_more_accuracy_on_separable_features():
    results = probe(splits_of(4.0), QUICK, name="linear_probe/features")
    rows = {row.name: row.figures for row in results.macros}
    assert list(rows) == ["all", "10 percent", "1 shot", "4 shots"]
    assert results.protocol == "linear_probe/features/choice" and results.num_samples == 90
    assert rows["all"]["accuracy"].value > 0.95 and rows["all"]["auroc"].value > 0.98
    assert rows["all"]["num_train"].value == 120 and rows["1 shot"]["num_train"].value == 3
    assert rows["10 percent"]["num_train"].value == 12
    assert 1 / 3 < rows["1 shot"]["accuracy"].value < rows["4 shots"]["accuracy"].value
    for figures in rows.values():
        one = figures["accuracy"]
        assert one.low <= one.value <= one.high
        assert one.low < one.high or one.value == 1
    assert np.isnan(rows["all"]["draw_sd"].value) and rows["1 shot"]["draw_sd"].value > 0
    assert results.metrics()["accuracy"] == rows["all"]["accuracy"].value
    assert len(results.predictions) == 90 and len(results.findings) == 3


def test_features_without_information_stay_at_chance():
    results = probe(splits_of(0.0), QUICK, name="p")
    for row in results.macros:
        assert abs(row.figures["accuracy"].value - 1 / 3) < 0.15, row.name
        assert abs(row.figures["auroc"].value - 1 / 2) < 0.15, row.name


def test_findings_are_probed_one_by_one_and_unknown_labels_take_no_part():
    splits = splits_of(4.0)
    splits["train"].labels[::5, 0] = -1
    splits["test"].labels[:9] = -1
    splits["train"].labels[:, 2] = 0
    results = probe(splits, QUICK, name="p")
    assert results.protocol == "p/findings"
    assert [one.name for one in results.findings] == ["class 0", "class 1"]
    assert results.skipped == {"class 2": "not both present and absent in training"}
    assert results.left_out == {"of test: no known label": 9} and results.num_samples == 81
    assert results.macros[0].figures["auroc"].value > 0.98
    assert results.macros[0].figures["num_train"].value == pytest.approx((96 + 120) / 2)


def test_two_classes_are_ranked_by_the_second():
    results = probe(splits_of(4.0, classes=2), QUICK, name="p")
    assert results.protocol == "p/choice" and [one.name for one in results.findings] == ["class 1"]


def test_patients_of_the_test_split_are_left_out_of_training():
    splits = splits_of(4.0)
    splits["train"].patient_ids[:4] = splits["test"].patient_ids[:4]
    results = probe(splits, QUICK, name="p")
    assert results.left_out == {"of train: their patients are held out": 4}
    assert results.macros[0].figures["num_train"].value == 116


def test_plans_and_splits_that_cannot_be_used_are_refused():
    with pytest.raises(ValueError, match="draws are 0"):
        ProbePlan(draws=0)
    splits = splits_of(4.0)
    splits["val"].labels[:] = -1
    with pytest.raises(ValueError, match=r"the val split has 60 samples and none to use"):
        probe(splits, QUICK, name="p")
    one = splits_of(4.0)
    one["train"] = one["train"].where(one["train"].labels[:, 0] == 1)
    with pytest.raises(ValueError, match="one class only"):
        probe(one, QUICK, name="p")


def test_draws_take_every_class_and_larger_ones_contain_smaller_ones():
    classes = np.array([0] * 50 + [1] * 30 + [2] * 2 + [-1] * 5)
    few, more = (draw(classes, Budget.of_shots(k), (7,)) for k in (2, 8))
    assert set(few) <= set(more) and (few < 82).all()
    assert np.bincount(classes[more]).tolist() == [8, 8, 2]
    share = draw(classes, Budget.of_fraction(0.1), (7,))
    assert np.bincount(classes[share]).tolist() == [5, 3, 1]
    assert len(draw(classes, Budget.of_fraction(1.0), (7,))) == 82
    assert Budget.of_shots(16).for_validation("scarce").shots == 4
    assert Budget.of_shots(16).for_validation("whole").is_all
    with pytest.raises(ValueError, match="a fraction is 0"):
        Budget.of_fraction(0.0)
    with pytest.raises(ValueError, match="shots are 0"):
        Budget.of_shots(0)


def test_a_strong_penalty_is_chosen_where_there_is_nothing_to_learn():
    generator = np.random.default_rng(0)
    parts = [
        Labelled(generator.normal(size=(60, 20)), generator.integers(0, 2, 60)) for _ in range(2)
    ]
    noise = fit_probe(parts[0], parts[1], parts[1].features, 2)
    direction = generator.normal(size=20)
    clear = [Labelled(p.features, (p.features @ direction > 0).astype(np.int64)) for p in parts]
    signal = fit_probe(clear[0], clear[1], clear[1].features, 2)
    assert noise.strength < 0.1 < signal.strength
    assert (signal.probabilities.argmax(axis=1) == clear[1].classes).mean() > 0.75
    single = fit_probe(
        Labelled(parts[0].features, np.ones(60, np.int64)), parts[1], direction[None], 3
    )
    assert single.probabilities.tolist() == [[0.0, 1.0, 0.0]]


def test_embedded_sets_survive_a_file_and_can_be_labelled_by_metadata(tmp_path):
    one = clusters(6, gap=1.0, seed=0, split="a")
    path = tmp_path / "a.npz"
    path.write_bytes(one.to_bytes())
    back = EmbeddedSet.from_file(path)
    np.testing.assert_array_equal(back.features, one.features)
    assert back.metadata == one.metadata and back.sample_ids == one.sample_ids
    by_kind = one.labelled_by("kind", ["2", "1"])
    assert by_kind.labels.tolist() == [[-1, -1], [0, 1], [1, 0]] * 2
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match="is damaged"):
        EmbeddedSet.from_file(path)
