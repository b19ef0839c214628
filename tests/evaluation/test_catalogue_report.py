"""Tables, plots and published files of an evaluation over many labelled sets."""

import json
from pathlib import Path

import pytest
import yaml

from medvlp.evaluation.plots import write_plots
from medvlp.evaluation.published_files import write_published
from medvlp.evaluation.published_unimed import PRINTED_AVERAGE, PRINTED_COLUMNS, printed_table
from medvlp.evaluation.report import to_markdown, to_text
from medvlp.evaluation.results import Results

from .test_zero_shot_catalogue import AVERAGED, SETS, macro, run


@pytest.fixture(scope="module")
def results() -> Results:
    return run([name for name in AVERAGED if name not in ("PCAM", "breast_us", "thyroid_us")])


def test_the_printed_average_is_the_mean_over_the_21_sets() -> None:
    mean = sum(column.num_sets * column.b16 for column in PRINTED_COLUMNS) / 21
    assert mean == pytest.approx(PRINTED_AVERAGE, abs=0.005)
    plain = sum(column.b16 for column in PRINTED_COLUMNS) / 6
    assert plain == pytest.approx(63.83, abs=0.01)
    for column in PRINTED_COLUMNS:
        for modality in column.modalities:
            own = [name for name in AVERAGED if SETS[name].modality == modality]
            assert len(own) == column.num_sets


def test_the_terminal_table_has_every_set_and_mean_uncut(results: Results) -> None:
    text = to_text(results)
    for name in ("chexpert-5x200", "skin_cancer", "ultrasound", "all sets"):
        assert name in text
    assert "\u2026" not in text
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 100
    assert "missing: breast_us, thyroid_us, PCAM" in text
    assert "no image of modality ultrasound" in text
    assert "possible leakage, odir_retina" in text


def test_markdown_shows_true_modalities_and_the_printed_heads(results: Results) -> None:
    lines = to_markdown(results).splitlines()
    fundus = next(line for line in lines if line.startswith("| fundus |"))
    assert fundus.split("|")[2].strip() == "4"
    assert "| published, B/16 | 68.78 | 31.23 | 85.54 | 68.83 | 68.64 | 59.96 | 61.63 |" in lines
    table = printed_table(results)
    accuracy = dict(zip(table[0], table[4], strict=True))
    assert accuracy["US"] == f"{100 * macro(results, 'fundus')['acc']:.2f}"
    assert accuracy["Retinal-Fundus"] == f"{100 * macro(results, 'ct')['acc']:.2f}"
    assert accuracy["CT"] == accuracy["MRI"] == f"- or {100 * macro(results, 'mri')['acc']:.2f}"
    assert accuracy["Avg"] == f"{100 * macro(results, 'mean')['acc']:.2f}"
    assert table[5][-1] == f"{100 * macro(results, 'mean')['mixed']:.2f}"


def test_sets_of_ones_own_have_no_printed_heads(tmp_path: Path) -> None:
    entry = {
        "modality": "pathology",
        "prompts": "PCAM",
        "classes": list(SETS["PCAM"].classes),
        "layout": {"folders": ["a", "b"]},
    }
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({"sets": {"PCAM": entry}}))
    results = run(["PCAM"], registry=str(tmp_path / "mine.yaml"))
    assert results.protocol == "zero_shot_catalogue/mine"
    text = to_markdown(results)
    assert "| PCAM | pathology | 8 |" in text and "As the paper prints" not in text
    assert [note.split(";")[0] for note in results.notes] == ["patients are known of no set"]


def test_bars_are_drawn_for_the_sets(results: Results, tmp_path: Path) -> None:
    assert write_plots(results, tmp_path) == [tmp_path / "sets.png"]
    assert (tmp_path / "sets.png").stat().st_size > 10_000
    write_plots(run(["dr_uwf"]), tmp_path)  # of no group


def test_the_published_file_has_a_line_for_each_set(results: Results, tmp_path: Path) -> None:
    (path,) = write_published({"unimed21": results}, tmp_path, "b16_400m_eval")
    assert path == tmp_path / "results" / "unimed21" / "b16_400m_eval" / "slip.txt"
    lines = path.read_text().splitlines()
    assert set(lines[::2]) == {"Saving results for Epoch 0"}
    found = {line["task"]: line["acc"] for line in map(json.loads, lines[1::2])}
    assert list(found) == [name for name in AVERAGED if name not in results.skipped]
    assert found["BACH"] == pytest.approx(100 * macro(results, "BACH")["acc"])
    assert list(found["acl_mri"]) == [
        *("acc", "auc_roc", "f1_score"),
        *("precision_score", "recall_score"),
    ]
