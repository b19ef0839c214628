"""Two runs of retrieval on the same samples."""

import csv
import json
from pathlib import Path

import pytest

from medvlp.compare import main
from medvlp.evaluation.rank_comparison import compare_ranks


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
    same = compare_ranks((better, better), num_resamples=50)
    assert same.directions["text_to_image"]["R@5"].difference.high == 0
    pair = compare_ranks((better, worse), num_resamples=50).directions["text_to_image"]["R@5"]
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
        compare_ranks(runs)
