"""A checkpoint of one twin on the data set and by the protocol of another."""

import csv
import json
from pathlib import Path

import pytest

from medvlp import config, evaluate
from medvlp.train import train
from medvlp.user_errors import one_line_errors

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:::lightning"),  # remarks on runs as tiny as these
]
SMALL = ["data.source.shape=[32,32,32]", "data.source.num_workers=0", "engine.num_workers=0"]
FAST = ["data.batch_size=4", "trainer.enable_progress_bar=false"]
OTHER = ["--data=phantom/rad_chestct", "--evaluation=rad_chestct", "data.source.hard_cases=false"]
MORE_SLICES = ["data.recipe.size=[96,48,48]", "data.recipe.spacing_mm=[3.75,7.5,7.5]"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train two steps; the checkpoint lies in checkpoints/last.ckpt."""
    root = tmp_path_factory.mktemp("other")
    sizes = ["data.source.num_train=12", "data.source.num_valid=6", "data.splits.val_fraction=0.3"]
    short = ["trainer.max_steps=2", "test=false", "~evaluation.phantom_ct_rate_unseen_wording"]
    where = [f"paths.data={root / 'data'}", f"paths.run={root}"]
    quick = ["evaluation.phantom_ct_rate.num_resamples=10"]
    train(config.compose([*where, *sizes, *short, *quick, *SMALL, *FAST]))
    return root


def test_another_data_set_by_its_protocol(folder: Path) -> None:
    run = folder / "rad"
    evaluate_other(folder, run, "callbacks.results.published_model=tiny")
    results = json.loads((run / "rad_chestct/results.json").read_text())
    assert results["protocol"] == "zero_shot/rad_chestct/volume"
    assert results["score_rule"] == "pair" and len(results["prompt_hash"]) == 64
    assert len(results["findings"]) + len(results["skipped"]) == 14
    assert results["provenance"]["input_size"] == [48, 48, 48]
    assert results["provenance"]["recipe_changes"] == {}
    rows = list(csv.DictReader((run / "rad_chestct/predictions.csv").read_text().splitlines()))
    assert {row["num_scans"] for row in rows} == {"1"}
    assert (run / "results/rad_chestct/tiny/results_volume.json").is_file()


def test_more_slices_than_in_training(folder: Path) -> None:
    with pytest.raises(SystemExit) as error:
        evaluate_other(folder, folder / "refused", *MORE_SLICES, "--allow_recipe=size")
    assert "spacing_mm" in str(error.value.code) and "--allow_recipe" in str(error.value.code)
    evaluate_other(folder, folder / "more", *MORE_SLICES, "--allow_recipe=size,spacing_mm")
    results = json.loads((folder / "more/rad_chestct/results.json").read_text())
    assert results["provenance"]["input_size"] == [96, 48, 48]
    assert results["provenance"]["recipe_changes"]["size"] == [[48, 48, 48], [96, 48, 48]]


def evaluate_other(folder: Path, run: Path, *extra: str) -> None:
    sizes = ["data.source.num_train=2", "data.source.num_test=6"]
    where = [f"paths.data={folder / 'data'}", f"paths.run={run}"]
    quick = ["evaluation.rad_chestct.num_resamples=10", "data.splits.val_fraction=0"]
    checkpoint = f"--ckpt_path={folder / 'checkpoints/last.ckpt'}"
    with one_line_errors():
        evaluate.run(["test", checkpoint, *OTHER, *where, *sizes, *quick, *SMALL, *FAST, *extra])
