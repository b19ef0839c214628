import json
from dataclasses import replace

import pytest

from medvlp.evaluation.plots import write_plots
from medvlp.evaluation.report import to_markdown, to_text, write_predictions
from medvlp.evaluation.results import Results


def test_result_file_round_trip_keeps_every_figure(results, tmp_path):
    results = results.with_provenance(checkpoint_hash="abc", commit="def", seed=3)
    path = results.to_json(tmp_path / "new" / "results.json")
    again = Results.from_json(path)
    assert again.to_dict() == results.to_dict()
    assert again.metrics() == pytest.approx(results.metrics())
    assert json.loads(path.read_text())["provenance"] == {
        "checkpoint_hash": "abc",
        "commit": "def",
        "seed": 3,
        "input_size": None,
        "recipe_changes": {},
    }


def test_the_table_depends_on_the_file_alone(results, tmp_path):
    again = Results.from_json(results.to_json(tmp_path / "results.json"))
    assert to_text(again) == to_text(results)
    assert to_markdown(again) == to_markdown(results)


def test_the_table_shows_every_finding_macros_last_and_what_was_skipped(results):
    text = to_text(results)
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 100
    for finding in results.findings:
        figure = finding.figures["auroc"]
        assert f"{figure.value:.3f} [{figure.low:.3f}, {figure.high:.3f}]" in text
    assert text.index("mean: all (17)") > text.index("Interlobular septal thickening")
    assert text.index("mean: large (5)") > text.index("mean: all (17)")
    assert "chance: AUROC 0.500, AP = prevalence" in text
    assert "not scored: 1 (no positives: Arterial wall calcification)" in text
    assert f"worst finding: {results.worst_finding}" in text


def test_predictions_have_ids_scores_and_labels(results, tmp_path):
    lines = write_predictions(results, tmp_path / "predictions.csv").read_text().splitlines()
    header = lines[0].split(",")
    assert header[:3] == ["sample_id", "patient_id", "Medical material"]
    assert len(header) == 2 + 18 + 18
    assert len(lines) == 61
    read = Results.from_json(results.to_json(tmp_path / "results.json"))
    with pytest.raises(ValueError, match="hold no predictions"):
        write_predictions(read, tmp_path / "predictions.csv")


def test_plots_are_written(results, tmp_path):
    paths = write_plots(results, tmp_path)
    assert [path.name for path in paths] == ["roc.png", "findings.png", "reliability.png"]
    assert all(path.stat().st_size > 10_000 for path in paths)


def test_another_schema_is_refused(results):
    tree = results.to_dict()
    with pytest.raises(ValueError, match="schema version 99"):
        Results.from_dict(tree | {"schema_version": 99})
    with pytest.raises(ValueError, match=r"lacks \['protocol'\]"):
        Results.from_dict({key: value for key, value in tree.items() if key != "protocol"})


def test_numbers_are_never_cut_for_a_long_name(results):
    long = replace(results.findings[0], name="Demyelinating disease of central nervous system")
    skipped = {"a": "no positives", "b": "no known label", "c": "no positives"}
    text = to_text(replace(results, findings=[long], worst_finding=long.name, skipped=skipped))
    assert "…" not in text
    assert "not scored: 3 (no positives: a, c; no known label: b)" in text
