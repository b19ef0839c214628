"""Lesions in a labelled scan: two stages and one go the whole way, and are compared."""

import json
from pathlib import Path

from tests.data.trunk_files import write_trunk

from .test_phantom_experiments import run_verb

SMALL = [
    "data.source.positions.per_label=[6,2,2]",
    "data.source.positions.border_mm=0.0",
    "data.batch_size=6",
    "engine.num_workers=0",
    "trainer.max_steps=2",
    "trainer.log_every_n_steps=1",
    "trainer.limit_train_batches=2",
    "trainer.enable_progress_bar=false",
]


def test_two_stages_and_one_over_the_same_lesions(tmp_path: Path) -> None:
    write_trunk(tmp_path)
    few = [*SMALL, f"paths.raw={tmp_path}"]
    two, one, out = (tmp_path / name for name in ("two", "one", "out"))
    told = run_verb("train", "experiment=anatomy/trunk", *few, f"paths.run={two}", folder=tmp_path)
    assert "all 3 stages have ended" in told
    name = "experiment=anatomy/trunk_one_large"
    run_verb("train", name, *few, f"paths.run={one}", folder=tmp_path)
    runs = [str(two / "fine"), str(one), "--evaluation=cascade", "--evaluation=fine"]
    run_verb("compare", *runs, f"--out={out}", folder=tmp_path)
    pairs = json.loads((out / "comparison.json").read_text())["groups"]["localisation"]
    assert set(pairs) == {"top1", "top1_mean_over_names"}
