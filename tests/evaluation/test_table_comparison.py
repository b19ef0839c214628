"""Two runs of retrieval, generated texts or places, on the same samples."""

import csv
import json
from pathlib import Path

import pytest

from medvlp.compare import main
from medvlp.evaluation.table_comparison import compare_tables


def write(folder: Path, ranks: list[int], *, first: int = 0) -> Path:
    (folder / "retrieval").mkdir(parents=True)
    with (folder / "retrieval/predictions.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["sample_id", "patient_id", "rank text_to_image"])
        writer.writerows([f"s{first + i}", f"p{i // 2}", float(r)] for i, r in enumerate(ranks))
    (folder / "retrieval/results.json").write_text("{}")
    return folder


def test_the_difference_is_that_of_the_same_samples(tmp_path: Path) -> None:
    better = write(tmp_path / "a", [1, 2, 3, 4, 5, 6, 7, 8])
    worse = write(tmp_path / "b", [6, 2, 3, 8, 5, 6, 7, 8])
    same = compare_tables((better, better), num_resamples=50)
    assert same.groups["text_to_image"]["R@5"].difference.high == 0
    pair = compare_tables((better, worse), num_resamples=50).groups["text_to_image"]["R@5"]
    assert (pair.first.value, pair.second.value) == (5 / 8, 3 / 8)
    assert pair.difference.value == 2 / 8
    assert 0 <= pair.difference.low <= pair.difference.high


def test_the_verb_prints_and_writes_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [str(write(tmp_path / name, [1, 2, 3, 4, 5, 6])) for name in "ab"]
    main([*runs, "--out", str(tmp_path / "out"), "--resamples", "20"])
    told = capsys.readouterr().out
    assert "| text_to_image | R@5 | 0.833 | 0.833 | +0.000 [+0.000, +0.000] |" in told
    assert "6 samples of 3 patients" in told
    tree = json.loads((tmp_path / "out/comparison.json").read_text())
    assert tree["num_samples"] == 6


def test_other_samples_are_refused(tmp_path: Path) -> None:
    runs = write(tmp_path / "a", [1, 2]), write(tmp_path / "b", [1, 2], first=1)
    with pytest.raises(ValueError, match="and not the same"):
        compare_tables(runs)


def write_texts(folder: Path, texts: list[str], truth: list[str], **columns: list) -> Path:
    (folder / "texts").mkdir(parents=True)
    with (folder / "texts/predictions.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["sample_id", "patient_id", "Ground Truth", "pred", *columns])
        rows = zip(truth, texts, *columns.values(), strict=True)
        writer.writerows([f"s{i}", f"p{i}", *row] for i, row in enumerate(rows))
    (folder / "texts/results.json").write_text("{}")
    return folder


def test_two_runs_of_answers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truth, kinds = ["yes", "no", "left lung"], ["presence", "presence", "location"]
    good = write_texts(tmp_path / "a", truth, truth, kind=kinds, right=[1, 1, 1])
    said = ["yes", "yes", "lung"]
    poor = write_texts(tmp_path / "b", said, truth, kind=kinds, right=[1, 0, 0])
    main([str(good), str(poor), "--out", str(tmp_path / "out"), "--resamples", "50"])
    told = capsys.readouterr().out
    assert "| all | accuracy | 1.000 | 0.333 | +0.667 [" in told
    assert "| kind_presence | accuracy | 1.000 | 0.500 | +0.500 [" in told
    # ROUGE-L of "lung" against "left lung": 2 * 1 * (1/2) / (1 + 1/2) = 2/3
    assert "| text | rougeL | 1.000 | 0.556 |" in told


def write_places(folder: Path, names: list[str], truth: list[str]) -> Path:
    (folder / "cascade").mkdir(parents=True)
    with (folder / "cascade/predictions.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["sample_id", "patient_id", "GT", "pred"])
        rows = zip(truth, names, strict=True)
        writer.writerows([f"s{i}", f"p{i}", *row] for i, row in enumerate(rows))
    (folder / "cascade/results.json").write_text("{}")
    return folder


def test_two_runs_of_places(tmp_path: Path) -> None:
    truth = ["Liver", "Liver,Spleen", "Heart", "Heart"]
    better = write_places(tmp_path / "a", ["Liver", "Spleen", "Heart", "Liver"], truth)
    worse = write_places(tmp_path / "b", ["Liver", "Heart", "Heart", "Liver"], truth)
    pairs = compare_tables((better, worse), num_resamples=50).groups["localisation"]
    assert (pairs["top1"].first.value, pairs["top1"].second.value) == (3 / 4, 2 / 4)
    # Liver 2 of 2, Heart 1 of 2; and 1 of 2 each
    assert pairs["top1_mean_over_names"].difference.value == 0.25
    other = write_places(tmp_path / "c", ["Liver"] * 4, ["Liver"] * 4)
    with pytest.raises(ValueError, match="other true places"):
        compare_tables((better, other))
    nameless = write_places(tmp_path / "d", [""] * 4, truth)
    with pytest.raises(ValueError, match="a coarse stage names no places"):
        compare_tables((nameless, nameless))


def test_two_runs_of_reports(tmp_path: Path) -> None:
    truth = ["A nodule is seen.", "No nodule is seen.", "Pleural effusion."]
    names = {"Lung nodule": [1, 0, 0], "Pleural effusion": [0, 0, 1]}
    runs = [write_texts(tmp_path / "a", truth, truth, **names)]
    names = {"Lung nodule": [1, 1, 1], "Pleural effusion": [0, 0, 0]}
    runs.append(write_texts(tmp_path / "b", [truth[0]] * 3, truth, **names))
    labels = compare_tables((runs[0], runs[1]), num_resamples=20).groups["report_labels"]
    # of three said, one is right; one of two is found: F1 = 2 / (2 + 2 + 1)
    assert labels["f1_micro"].first.value == 1 and labels["f1_micro"].second.value == 2 / 5
    assert labels["f1_macro"].difference.value == pytest.approx(1 - (2 / 4 + 0) / 2)
    other = write_texts(tmp_path / "c", truth, truth[::-1], **names)
    with pytest.raises(ValueError, match="other true texts"):
        compare_tables((runs[0], other))
