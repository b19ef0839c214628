import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from medvlp import compare
from medvlp.evaluation.classification import classification_results
from medvlp.evaluation.comparison import compare_runs
from medvlp.evaluation.comparison_report import comparison_markdown
from medvlp.evaluation.delong import delong_test
from medvlp.evaluation.report import write_predictions
from medvlp.evaluation.scored_run import ScoredRun

from .conftest import make_protocol, make_table


def write_run(folder: Path, gain: float = 0.0, **changes) -> Path:
    """Write a run whose scores are shifted up by `gain` where the finding is there."""
    table = make_table(**changes)
    table = replace(table, scores=np.where(table.labels == 1, table.scores + gain, table.scores))
    results = classification_results(table, make_protocol(num_resamples=5))
    results.to_json(folder / "ct" / "results.json")
    write_predictions(results, folder / "ct" / "predictions.csv")
    return folder


@pytest.fixture
def runs(tmp_path: Path) -> tuple[Path, Path]:
    return write_run(tmp_path / "better", 0.3), write_run(tmp_path / "plain")


def read(runs: tuple[Path, Path]) -> tuple[ScoredRun, ScoredRun]:
    return ScoredRun.read(runs[0]), ScoredRun.read(runs[1])


def test_a_better_run_is_better_and_swapping_turns_the_sign(runs) -> None:
    first, second = read(runs)
    found, swapped = compare_runs(first, second), compare_runs(second, first)
    mean = found.macro["auroc"]
    assert 0 < mean.difference.low < mean.difference.value < mean.difference.high
    assert mean.difference.value == pytest.approx(mean.first.value - mean.second.value)
    assert swapped.macro["auroc"].difference.low == pytest.approx(-mean.difference.high)
    one = found.findings[3]
    assert one.pairs["auroc"].first.value == pytest.approx(
        roc_auc_score(first.labels[:, 3], first.scores[:, 3])
    )
    assert found.num_patients == 30 and len(found.findings) == 18


def test_a_run_does_not_differ_from_itself_in_another_order(runs) -> None:
    first = ScoredRun.read(runs[0])
    turned = replace(
        first,
        sample_ids=first.sample_ids[::-1],
        patient_ids=first.patient_ids[::-1],
        scores=first.scores[::-1],
        labels=first.labels[::-1],
    )
    difference = compare_runs(first, turned).macro["auroc"].difference
    assert (difference.value, difference.low, difference.high) == (0, 0, 0)


def test_unscored_samples_count_in_neither_run(runs) -> None:
    first, second = read(runs)
    first.scores[:7, 0] = np.nan
    second.labels[7, 0] = first.labels[7, 0] = -1
    second.labels[:, 1] = first.labels[:, 1] = 0
    found = compare_runs(first, second)
    assert found.findings[0].num_known == 60 - 8
    assert found.skipped == {first.class_names[1]: "0 positive of 60 samples"}
    assert f"{first.class_names[0]} (8)" in found.notes[0]


def test_other_samples_patients_labels_and_findings_are_refused(runs) -> None:
    first, second = read(runs)
    with pytest.raises(ValueError, match=r"60 samples, .* 60, of which 59 .* is in one only"):
        compare_runs(first, replace(second, sample_ids=["x", *second.sample_ids[1:]]))
    with pytest.raises(ValueError, match="other patients"):
        compare_runs(first, replace(second, patient_ids=["x", *second.patient_ids[1:]]))
    labels = second.labels.copy()
    labels[0, 2] = 1 - labels[0, 2]
    with pytest.raises(ValueError, match=f"other labels of {second.class_names[2]};"):
        compare_runs(first, replace(second, labels=labels))
    with pytest.raises(ValueError, match="no finding in common"):
        compare_runs(first, replace(second, class_names=[f"{n}?" for n in second.class_names]))


def test_findings_of_one_run_and_other_recipes_are_told(runs) -> None:
    first, second = read(runs)
    second = replace(second, class_names=["other", *second.class_names[1:]])
    second.facts["recipe_hash"] = "elsewhere"
    notes = compare_runs(first, second).notes
    assert notes[0] == f"2 findings are in one run only: {first.class_names[0]}, other"
    assert "the runs differ in their preprocessing" in notes


def test_delong_agrees_with_a_bootstrap_and_with_ties() -> None:
    rng = np.random.default_rng(0)
    labels = rng.random(400) < 0.3
    first = np.round(rng.normal(labels * 1.0), 1)
    second = np.round(rng.normal(labels * 0.6), 1)
    found = delong_test(labels, first, second)
    assert found.difference == pytest.approx(
        roc_auc_score(labels, first) - roc_auc_score(labels, second)
    )
    drawn = []
    for _ in range(400):
        rows = rng.integers(400, size=400)
        drawn.append(
            roc_auc_score(labels[rows], first[rows]) - roc_auc_score(labels[rows], second[rows])
        )
    assert found.standard_error == pytest.approx(np.std(drawn), rel=0.15)
    assert delong_test(labels, first, first).p == 1
    with pytest.raises(ValueError, match="1 positive and 2 negative"):
        delong_test(np.array([True, False, False]), first[:3], second[:3])


def test_delong_is_the_covariance_of_all_pairs() -> None:
    """The definition of 1988, pair by pair, with ties."""
    rng = np.random.default_rng(1)
    labels = np.arange(12) < 5
    scores = np.round(rng.normal(labels * [[0.8], [0.3]]), 0)
    pairs = scores[:, labels, None] - scores[:, None, ~labels]
    wins = (pairs > 0) + (pairs == 0) / 2
    covariance = np.cov(wins.mean(2)) / 5 + np.cov(wins.mean(1)) / 7
    error = np.sqrt(np.array([1, -1]) @ covariance @ np.array([1, -1]))
    difference = wins[0].mean() - wins[1].mean()
    found = delong_test(labels, *scores)
    assert found.difference == pytest.approx(difference)
    assert found.standard_error == pytest.approx(error)
    assert found.p == pytest.approx(math.erfc(abs(difference) / error / math.sqrt(2)))


def test_a_label_that_is_no_label_is_told_with_its_file(runs) -> None:
    path = runs[0] / "ct" / "predictions.csv"
    lines = path.read_text().splitlines()
    for last, what in (("", "''"), (",0.5", "'0.5'"), (",2", "'2'")):
        cut = lines[1].rsplit(",", 1)[0] + (last or ",")
        path.write_text("\n".join([lines[0], cut, *lines[2:]]) + "\n")
        with pytest.raises(ValueError, match=rf"predictions\.csv has {what} where a label"):
            ScoredRun.read(runs[0])


def test_the_command_prints_a_table_and_writes_it(runs, tmp_path, capsys) -> None:
    out = tmp_path / "out"
    compare.main([*map(str, runs), "--out", str(out), "--resamples", "50"])
    printed = capsys.readouterr().out
    assert "A - B [95 %]" in printed and "mean AP" in printed and "30 patients" in printed
    tree = json.loads((out / "comparison.json").read_text())
    assert tree["macro"]["auroc"]["difference"]["low"] > 0
    assert "| **mean** |" in (out / "comparison.md").read_text()


def test_the_command_tells_what_is_missing(runs, tmp_path, capsys) -> None:
    with pytest.raises(SystemExit, match="holds no scores"):
        compare.main([str(runs[0]), str(tmp_path / "nowhere"), "--out", str(tmp_path / "out")])
    (runs[0] / "ct").rename(runs[0] / "mr")
    names = ["--evaluation", "mr", "--evaluation", "ct"]
    compare.main([*map(str, runs), *names, "--out", str(tmp_path / "out")])
    write_run(runs[1].with_name("better"), 0.3)
    with pytest.raises(SystemExit, match="holds the evaluations ct, mr; choose one"):
        compare.main([*map(str, runs), "--out", str(tmp_path / "out")])


def test_undefined_numbers_are_written_as_nothing(runs) -> None:
    first, second = read(runs)
    labels = first.labels.copy()
    labels[:, 0] = 0
    labels[0, 0] = 1
    pair = (replace(run, labels=labels) for run in (first, second))
    assert "| - |" in comparison_markdown(compare_runs(*pair, num_resamples=20))
