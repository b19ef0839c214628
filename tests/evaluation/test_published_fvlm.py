import csv
import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from medvlp.evaluation.published_fvlm import (
    main,
    printed_means,
    published_figures,
    with_intervals,
)
from medvlp.evaluation.published_fvlm_table import column_names, read_scores, write_scores
from medvlp.prompts.prompt_set import PromptSet

HERNIA = "esophagus_Hiatal hernia_Not Hiatal hernia._Hiatal hernia."
FIBROSIS = "vena_cava_Fibrosis_Not Fibrosis._Fibrosis."


def write(path: Path, rows: list[list]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return path


@pytest.fixture
def tables(tmp_path) -> tuple[Path, Path]:
    scores = [
        ["file_name", HERNIA, FIBROSIS],
        ["valid_1_a_1.nii.gz", 0.9, 0.1],
        ["valid_1_a_2.nii.gz", 0.2, 0.4],
        ["valid_2_a_1.nii.gz", "", 0.2],
        ["valid_3_b_1.nii.gz", 0.4, 0.3],
    ]
    labels = [
        ["VolumeName", "Fibrosis", "Hiatal hernia", "Cardiomegaly"],
        ["valid_3_b_1.nii.gz", 0, 1, 0],
        ["valid_2_a_1.nii.gz", 0, 1, 0],
        ["valid_1_a_2.nii.gz", 0, 0, 0],
        ["valid_1_a_1.nii.gz", 0, 1, 0],
        ["valid_9_a_1.nii.gz", 1, 1, 0],
    ]
    return write(tmp_path / "scores.csv", scores), write(tmp_path / "labels.csv", labels)


def test_an_absent_organ_takes_no_part_or_is_zero_as_published(tables):
    table = read_scores(*tables)
    assert table.class_names == ["Hiatal hernia", "Fibrosis"]
    assert table.patient_ids == ["valid_1", "valid_1", "valid_2", "valid_3"]
    hernia = published_figures(table)["Hiatal hernia"]
    assert (hernia["auc"], hernia["sens"], hernia["spec"]) == (1.0, 1.0, 1.0)
    published = published_figures(read_scores(*tables, compat="published"))["Hiatal hernia"]
    # three positives at 0.9, 0 and 0.4 against one negative at 0.2
    assert published["auc"] == pytest.approx(2 / 3)
    assert published["sens"] == pytest.approx(2 / 3) and published["acc"] == 0.75
    assert published["threshold"] == pytest.approx(39 / 99)  # the last below 0.4


def test_labels_of_one_kind_give_nan_and_no_share_of_the_means(tables):
    figures = published_figures(read_scores(*tables))
    assert all(math.isnan(value) for value in figures["Fibrosis"].values())
    assert printed_means(figures)["AUC"] == 1.0
    assert math.isnan(printed_means({"Fibrosis": figures["Fibrosis"]})["AUC"])


def test_thresholds_of_another_split_are_taken(tables):
    table = read_scores(*tables).columns(["Hiatal hernia"])
    assert published_figures(table, {"Hiatal hernia": 0.5})["Hiatal hernia"]["sens"] == 0.5
    with pytest.raises(ValueError, match="no threshold for Hiatal hernia"):
        published_figures(table, {"Fibrosis": 0.5})


def test_a_repeated_volume_counts_once_but_as_often_as_it_comes_as_published(tables):
    scores, labels = tables
    lines = scores.read_text().splitlines()
    scores.write_text("\n".join([*lines, lines[1]]) + "\n")
    with pytest.warns(UserWarning, match="1 of 5 rows repeat a volume"):
        assert len(read_scores(scores, labels).sample_ids) == 4
    assert len(read_scores(scores, labels, compat="published").sample_ids) == 5


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("file_name", "name", "no rows with a column file_name or sample_id"),
        ("0.9", "high", r"scores\.csv, valid_1_a_1, esophagus_.*'high' is no number"),
        ("0.9", "1.9", "must lie from 0 to 1"),
        ("valid_3_b_1", "valid_7_b_1", "no labels of 1 of 4 volumes.*first valid_7_b_1"),
        ("_Hiatal hernia_", "_Hernia_", "is not organ_finding_negative_positive"),
        ("_Hiatal hernia_", "_Fibrosis_", "several columns of Fibrosis"),
        ("valid_1_a_1.nii.gz,0.9,0.1", "valid_1_a_1.nii.gz,0.9", r"scores\.csv, line 2.* 2 cells"),
        ("valid_1_a_1.nii.gz,0.9,0.1", "valid_1_a_1.nii.gz,0.9,0.1,1", "line 2.* more than 3"),
    ],
)
def test_a_broken_table_is_refused_by_name(tables, old, new, message):
    scores, labels = tables
    scores.write_text(scores.read_text().replace(old, new, 1))
    with pytest.raises(ValueError, match=message):
        read_scores(scores, labels)


def test_labels_must_be_zero_one_or_unknown(tables):
    scores, labels = tables
    with pytest.raises(ValueError, match="give the table of labels"):
        read_scores(scores)
    text = labels.read_text()
    labels.write_text(text.replace("valid_1_a_1.nii.gz,0,1", "valid_1_a_1.nii.gz,,-1"))
    assert read_scores(scores, labels).labels[0].tolist() == [-1, -1]
    labels.write_text(text.replace("valid_1_a_1.nii.gz,0,1", "valid_1_a_1.nii.gz,0,2"))
    with pytest.raises(ValueError, match="labels must be 0, 1"):
        read_scores(scores, labels)


def test_predictions_of_a_test_become_the_published_table(tmp_path, capsys):
    names = PromptSet.load("fvlm").class_names
    rng = np.random.default_rng(0)
    rows: list[list] = [
        ["sample_id", "patient_id", "num_scans", *names, *(f"{n} (label)" for n in names)]
    ]
    for k in range(20):
        cells = rng.random(16).tolist()
        cells[14] = "nan" if k == 3 else cells[14]
        rows.append([f"valid_{k}_a_1", f"valid_{k}", 1, *cells, *rng.integers(0, 2, 16).tolist()])
    predictions = write(tmp_path / "predictions.csv", rows)
    target = tmp_path / "new" / "scores.csv"
    out = tmp_path / "out"
    main([str(predictions), "--export", str(target), "--out", str(out)])
    printed = capsys.readouterr().out
    assert "1 of 20 volumes lack an organ" in printed and "means over 16 findings" in printed
    assert json.loads((out / "published.json").read_text())["means"]["AUC"] > 0
    assert (out / "results.json").is_file()
    lines = list(csv.reader(target.read_text().splitlines()))
    assert lines[0] == ["file_name", *column_names(PromptSet.load("fvlm")).values()]
    assert [row[15] for row in lines if row[0] == "valid_3_a_1.nii.gz"] == [""]
    labels = [["VolumeName", *names], *([row[0], *row[19:]] for row in rows[1:])]
    again = read_scores(target, write(tmp_path / "labels.csv", labels))
    ours = read_scores(predictions)
    order = [ours.sample_ids.index(name) for name in again.sample_ids]
    np.testing.assert_array_equal(again.scores, ours.scores[order])
    np.testing.assert_array_equal(again.labels, ours.labels[order])
    with pytest.raises(ValueError, match=r"predictions\.csv has labels of its own"):
        read_scores(predictions, tmp_path / "labels.csv")
    with pytest.raises(ValueError, match="no scores of Hiatal hernia"):
        write_scores(target, ours.columns(["Emphysema"]), {"Hiatal hernia": HERNIA})


def test_thresholds_of_cosines_are_refused(tables, tmp_path):
    results = with_intervals(read_scores(*tables))
    replace(results, score_rule="cosine").to_json(tmp_path / "results.json")
    with pytest.raises(SystemExit, match=r"results\.json holds thresholds .* 'cosine'"):
        main([*map(str, tables), "--thresholds", str(tmp_path / "results.json")])


def test_errors_of_the_command_are_one_line(tables, tmp_path):
    shutil.copy(tables[0], tmp_path / "copy.csv")
    with pytest.raises(SystemExit, match="give the table of labels"):
        main([str(tmp_path / "copy.csv")])
