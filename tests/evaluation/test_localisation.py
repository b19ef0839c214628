"""Figures of places by hand, and the command that scores published tables."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medvlp.data.lesion_places import PlaceVocabulary
from medvlp.data.lesion_table import LesionTable
from medvlp.data.place_file import Place
from medvlp.evaluation.localisation import NamedPlaces
from medvlp.evaluation.place_metrics import chance_scores, lesion_metrics
from medvlp.evaluation.published_hcl_al import main, published_score, score_tables
from medvlp.evaluation.results import Results

TREE = {
    "Chest": {
        "Left lung": {"Apex": "Left apex", "Base": "Left base"},
        "Right lung": {"Apex": "Right apex", "Base": "Right base"},
    },
    "Pelvis": {"Bladder": {"Dome": "Dome"}},
}
PLACES = PlaceVocabulary(
    [
        Place(body, coarse, fine, name)
        for body, branch in TREE.items()
        for coarse, leaves in branch.items()
        for fine, name in leaves.items()
    ],
    {},
)
BOX = "x,y,z,width,height,depth"
TRUTH = f"""image_path,{BOX},GT
a/one/CT.nii.gz,0,0,0,10,10,10,Left apex
a/one/CT.nii.gz,50,0,0,10,10,10,"Left base,Dome"
a/two/CT.nii.gz,0,0,0,10,10,10,Right apex
"""
LISTS = "coarse_labels,fine_to_coarse_labels,fine_labels,fine_probs"
PREDICTED = f"""\ufeffimage_path,{BOX},{LISTS},pred
b/one/CT.nii.gz,1,0,0,10,10,10,"Right lung,Left lung","Right lung,Left lung","Apex,Apex","0.6,0.3",\
Right apex
b/one/CT.nii.gz,50,0,0,10,10,10,Bladder,Bladder,Dome,1.0,Dome
b/two/CT.nii.gz,90,0,0,10,10,10,Bladder,Bladder,Dome,1.0,Dome
b/three/CT.nii.gz,0,0,0,10,10,10,Bladder,Bladder,Dome,1.0,Dome
"""


def guess(truth: list[str], names: list[str], coarse: list[str] | None = None) -> dict[str, Any]:
    return {"truth": truth, "names": names, "coarse": coarse or [], "probability": 0.5}


def tables(tmp_path: Path, predicted: str = PREDICTED) -> tuple[LesionTable, LesionTable]:
    (tmp_path / "pred.csv").write_text(predicted, encoding="utf-8")
    (tmp_path / "truth.csv").write_text(TRUTH)
    return LesionTable.read(tmp_path / "pred.csv"), LesionTable.read(tmp_path / "truth.csv")


def test_what_a_guess_would_have() -> None:
    rows = [guess(truth, []) for truth in (["Left apex", "Left base"], ["Left apex"], ["Dome"])]
    scores = chance_scores([*rows, guess(["elsewhere"], [])], PLACES)
    assert scores["top1_most_frequent"].tolist() == [1, 1, 0, 0]
    assert scores["top1_uniform"].tolist() == [0.4, 0.2, 0.2, 0]
    np.testing.assert_equal(scores["top1_within_coarse"], [1, 0.5, 1, np.nan])
    assert scores["coarse_top1_most_frequent"].tolist() == [1, 1, 0, 0]
    np.testing.assert_allclose(scores["coarse_top1_uniform"], [1 / 3, 1 / 3, 1 / 3, 0])


def test_coarse_places_are_calibrated_too() -> None:
    more = {"coarse_probabilities": [0.8], "size_mm": 9.0}
    truths = (["Left apex"], ["Dome"])
    rows = [guess(truth, [], ["Left lung"]) | more | {"probability": np.nan} for truth in truths]
    macros, _ = NamedPlaces(PLACES).macros(rows, np.ones((1, 2)))
    found = {macro.name: macro.figures for macro in macros}
    assert "calibration" not in found
    assert found["coarse_calibration"]["ece"].value == pytest.approx(0.3)


def test_levels_of_the_tree() -> None:
    rows = [
        guess(["Left apex"], ["Left apex", "Right apex"], ["Left lung"]),
        guess(["Left apex"], ["Right apex", "Left apex"], ["Right lung", "Left lung", "Bladder"]),
        guess(["Left apex", "Dome"], ["Left base"], ["Bladder"]),
        guess(["Left apex"], ["Dome"]),
        guess(["Left apex"], ["Left lung"]),  # too large for a fine place
    ]
    metrics = lesion_metrics(rows, PLACES, cutoffs=(1, 2, 3, 9))
    assert metrics["top1"].tolist() == [1, 0, 0, 0, 0]
    assert metrics["top2"].tolist() == [1, 1, 0, 0, 0]
    assert "top3" not in metrics
    assert metrics["laterality_error"].tolist() == [0, 1, 0, 0, 0]
    assert metrics["region"].tolist() == [1, 1, 1, 0, 1]
    assert metrics["coarse"].tolist() == [1, 0, 1, 0, 1]
    np.testing.assert_equal(metrics["fine_given_coarse"], [1, np.nan, 0, np.nan, 0])
    assert metrics["tree_distance"].tolist() == [0, 4, 2, 6, 1]
    np.testing.assert_equal(metrics["coarse_top1"], [1, 0, 1, np.nan, np.nan])
    np.testing.assert_equal(metrics["coarse_top3"], [1, 1, 1, np.nan, np.nan])


def test_rare_names_count_as_much_as_common_ones() -> None:
    rows = [guess(["Left apex"], ["Left apex"])] * 3 + [guess(["Dome"], ["Left apex"])]
    ids = [
        {"sample_id": str(i), "patient_id": "p", "recipe_hash": "", "scores": []} for i in range(4)
    ]
    full = [row | one | {"size_mm": 5.0} for row, one in zip(rows, ids, strict=True)]
    metrics = NamedPlaces(PLACES, num_resamples=5).compute(full).metrics()
    assert metrics["localisation_top1"] == 0.75
    assert metrics["localisation_top1_mean_over_names"] == 0.5
    assert metrics["region: Pelvis_top1"] == 0
    assert metrics["size: below 10 mm_n"] == 4
    assert metrics["calibration_ece"] == pytest.approx(0.25)


def test_a_published_table_is_scored(tmp_path: Path) -> None:
    predicted, truth = tables(tmp_path)
    assert published_score(predicted, truth) == (4, 2, 0.5)
    results = score_tables(predicted, truth, PLACES, num_resamples=10)
    metrics = results.metrics()
    assert metrics["coverage_matched"] == 0.5
    assert metrics["localisation_laterality_error"] == 0.5
    assert metrics["localisation_coarse_top1"] == 0.5
    assert "1 of 3 true lesions have no prediction" in results.notes
    assert any("truth.csv does not have: three" in note for note in results.notes)
    assert results.predictions[0]["probability"] == 0.6


def test_a_table_of_the_coarse_stage_has_figures_of_coarse_places(tmp_path: Path) -> None:
    lines = [",".join(line.split(",")[:7]) for line in PREDICTED.splitlines()[:2]]
    table = "\n".join([f"{lines[0]},coarse_labels", f'{lines[1]},"Left lung,Bladder"'])
    metrics = score_tables(*tables(tmp_path, table), PLACES, num_resamples=3).metrics()
    assert metrics["localisation_coarse_top1"] == 1
    assert "localisation_top1" not in metrics


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tables(tmp_path)
    files = [str(tmp_path / name) for name in ("pred.csv", "truth.csv")]
    (tmp_path / "places.json").write_text(json.dumps(TREE))
    more = ["--vocabulary", str(tmp_path / "places.json"), "--resamples", "5"]
    main([*files, *more, "--out", str(tmp_path)])
    assert "accuracy_top1: 0.5" in capsys.readouterr().out
    assert Results.from_json(tmp_path / "results.json").kind == "localisation"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (",1,0,0,10", ",x,0,0,10", "lesion 1: the box .* is not six numbers"),
        ('"Apex,Apex"', "Apex", "the three lists belong together"),
        ('"Apex,Apex"', '"Apex,Tip"', "'Tip' is not a fine word of 'Left lung'"),
        ('"Right lung,Left lung","Apex', '"Right lung,Left long","Apex', "mean 'Left lung'"),
        ("b/", "b/x", "none of 4 samples counts, all are without a true place"),
    ],
)
def test_tables_that_cannot_be_scored(tmp_path: Path, old: str, new: str, message: str) -> None:
    text = PREDICTED.replace("/one/", "/xone/").replace("/two/", "/xtwo/") if old == "b/" else ""
    with pytest.raises(ValueError, match=message):
        score_tables(*tables(tmp_path, text or PREDICTED.replace(old, new)), PLACES)


def test_coarse_probabilities_of_a_table_are_calibrated(tmp_path: Path) -> None:
    table = PREDICTED.replace(LISTS, f"{LISTS},coarse_probs").replace(
        '"0.6,0.3",', '"0.6,0.3","0.9,0.1",'
    )
    table = table.replace("Dome,1.0,", "Dome,1.0,1.0,")
    metrics = score_tables(*tables(tmp_path, table), PLACES, num_resamples=3).metrics()
    # 0.9 for the wrong side, and 1 for what is right
    assert metrics["coarse_calibration_ece"] == pytest.approx(0.45)


def test_unknown_true_names_come_with_the_nearest() -> None:
    row = guess(["Left apx"], ["Dome"]) | {"sample_id": "1", "patient_id": "p"}
    row |= {"recipe_hash": "", "scores": [], "size_mm": 5.0}
    (note,) = NamedPlaces(PLACES, num_resamples=2).compute([row]).notes
    assert "'Left apx' (1 lesions; did you mean 'Left apex'?)" in note
