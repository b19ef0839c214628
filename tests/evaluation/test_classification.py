import math

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from medvlp.evaluation.classification import classification_results
from medvlp.evaluation.published import hlip_layout

from .conftest import make_protocol, make_table


def test_values_equal_scikit_learn_and_macros_are_their_means():
    table = make_table()
    results = classification_results(table, make_protocol())
    for k, finding in enumerate(results.findings):
        labels, scores = table.labels[:, k], table.scores[:, k]
        assert finding.figures["auroc"].value == pytest.approx(roc_auc_score(labels, scores))
        assert finding.figures["ap"].value == pytest.approx(average_precision_score(labels, scores))
        figure = finding.figures["auroc"]
        assert figure.low <= figure.value <= figure.high
    for macro in results.macros:
        members = [f for f in results.findings if f.name in macro.findings]
        mean = np.mean([f.figures["ap"].value for f in members])
        assert macro.figures["ap"].value == pytest.approx(mean)
        assert macro.figures["ap"].low < macro.figures["ap"].value < macro.figures["ap"].high
    assert [macro.name for macro in results.macros] == ["all", "focal", "large", "published_16"]
    worst = min(results.findings, key=lambda f: f.figures["auroc"].value)
    assert results.worst_finding == worst.name


def test_macro_interval_is_that_of_the_mean_not_the_mean_of_intervals():
    results = classification_results(make_table(), make_protocol())
    macro = results.macros[0].figures["auroc"]
    widths = [f.figures["auroc"].high - f.figures["auroc"].low for f in results.findings]
    assert macro.high - macro.low < 0.6 * np.mean(widths)


def test_correlated_studies_of_a_patient_widen_the_interval():
    table = make_table(40)
    doubled = {
        "sample_ids": [f"{name}{copy}" for copy in "ab" for name in table.sample_ids],
        "scores": np.tile(table.scores, (2, 1)),
        "decisions": np.tile(table.decisions, (2, 1)),
        "labels": np.tile(table.labels, (2, 1)),
        "metadata": [{}] * 80,
    }
    same = make_table(**doubled, patient_ids=[f"p{k}" for k in range(40)] * 2)
    apart = make_table(**doubled, patient_ids=[f"p{k}" for k in range(80)])
    widths = []
    for copies in (same, apart):
        figure = classification_results(copies, make_protocol(num_resamples=300)).macros[0]
        widths.append(figure.figures["auroc"].high - figure.figures["auroc"].low)
    assert widths[0] > 1.2 * widths[1]


def test_subgroups_are_listed_where_metadata_are_known():
    results = classification_results(make_table(), make_protocol())
    assert [(g.attribute, g.value, g.num_samples) for g in results.subgroups] == [
        ("sex", "F", 30),
        ("sex", "M", 30),
    ]
    assert not math.isnan(results.subgroups[0].figures["auroc"].value)


def test_ages_are_grouped_in_bands():
    metadata = [{"age": str(30 + k)} for k in range(60)]
    results = classification_results(make_table(metadata=metadata), make_protocol())
    assert [(g.value, g.num_samples) for g in results.subgroups] == [
        ("18-39", 10),
        ("40-59", 20),
        ("60-79", 20),
        ("80+", 10),
    ]


def test_calcification_is_merged_as_published():
    table = make_table(
        4,
        class_names=["a", "x", "b"],
        scores=np.array([[0.6, 0.9, 0.7], [0.1, 0.9, 0.6], [0.2, 0.9, 0.4], [0.3, 0.9, 0.1]]),
        decisions=np.array([[1, 1, 1], [0, 1, 1], [0, 1, 0], [0, 1, 0]], dtype=bool),
        labels=np.array([[1, 0, 0], [0, 0, 1], [0, 1, -1], [0, 1, 0]]),
    )
    merged = table.merged("either", ["a", "b"])
    assert merged.class_names == ["x", "either"]
    np.testing.assert_array_equal(merged.scores[:, 1], [0.7, 0.6, 0.2, 0.1])
    np.testing.assert_array_equal(merged.decisions[:, 1], [True, True, False, False])
    np.testing.assert_array_equal(merged.labels[:, 1], [1, 1, -1, 0])


def test_published_layout_has_the_published_keys():
    layout = hlip_layout(classification_results(make_table(), make_protocol()))
    assert set(layout["mean"]) == {
        "mean acc (balanced)",
        "mean f1 (weighted)",
        "mean recall",
        "mean precision",
    }
    assert set(layout["* mean"]) == {"mean auc", *(f"* {key}" for key in layout["mean"])}


def test_a_finding_without_a_given_threshold_is_an_error():
    with pytest.raises(ValueError, match="no threshold for Medical material"):
        classification_results(make_table(), make_protocol(thresholds={"x": 0.5}))
