"""The pointing game, by numbers worked out by hand."""

import numpy as np
import pytest

from medvlp.evaluation.pointing_game import Pointing, markdown_table, pointing_results
from medvlp.evaluation.results import Results

FACTS = {"protocol": "pointing_game/test", "prompt_hash": "p", "recipe_hash": "r"}
POINTS = [
    Pointing("a", "p1", "Nodule", True, 0.10, 0.5),
    Pointing("b", "p1", "Nodule", False, 0.30, 0.5),
    Pointing("b", "p1", "Effusion", True, 0.20, 0.0),
    Pointing("c", "p2", "Effusion", True, 0.20, 0.2),
]


def rows(results: Results) -> dict[str, dict[str, float]]:
    return {
        macro.name: {key: one.value for key, one in macro.figures.items()}
        for macro in results.macros
    }


def test_rates_and_ratios_over_pairs():
    groups = {"all": ["Nodule", "Effusion"], "large": ["Effusion"], "absent": ["Fibrosis"]}
    results = pointing_results(POINTS, groups, facts=FACTS, num_resamples=20)
    found = rows(results)
    assert list(found) == ["all", "large", "Nodule", "Effusion"]
    assert found["all"]["hit_rate"] == pytest.approx(0.75)
    assert found["all"]["chance"] == pytest.approx(0.2)
    assert found["all"]["times_chance"] == pytest.approx(3.75)
    assert found["all"]["times_other_maps"] == pytest.approx(0.75 / 0.3)
    assert found["Nodule"]["times_chance"] == pytest.approx(2.5)
    assert found["large"] == found["Effusion"]
    assert (results.num_samples, results.num_patients) == (3, 2)
    assert results.worst_finding == "Nodule"


def test_intervals_resample_patients():
    rng = np.random.default_rng(0)
    points = [
        Pointing(f"s{n}", f"p{n}", "Nodule", bool(rng.random() < 0.4), 0.1, 0.1) for n in range(200)
    ]
    results = pointing_results(points, {}, facts=FACTS)
    hit = results.macros[0].figures["hit_rate"]
    spread = 1.96 * (hit.value * (1 - hit.value) / 200) ** 0.5
    assert hit.low == pytest.approx(hit.value - spread, abs=0.02)
    assert hit.high == pytest.approx(hit.value + spread, abs=0.02)


def test_a_ratio_to_nothing_is_undefined_and_the_file_reads_back(tmp_path):
    points = [Pointing("a", "p1", "Nodule", True, 0.1, 0.0)]
    results = pointing_results(points, {"all": ["Nodule"]}, facts=FACTS, num_resamples=5)
    assert np.isnan(rows(results)["all"]["times_other_maps"])
    assert Results.from_json(results.to_json(tmp_path / "results.json")).macros[0].name == "all"
    assert "| all | 1 | 1.000 |" in markdown_table(results)
    assert results.metrics()["all_hit_rate"] == 1.0


def test_nothing_to_point_at_is_refused():
    with pytest.raises(ValueError, match="nothing to point at"):
        pointing_results([], {}, facts=FACTS)
