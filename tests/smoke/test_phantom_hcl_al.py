"""HCL-AL's stages go the whole way on their twin."""

import csv
import json
from pathlib import Path

from .test_phantom_experiments import run_verb

SMALL = [
    "data.source.num_train=24",
    "data.source.num_test=6",
    "data.source.shape=[48,32,32]",
    "data.batch_size=8",
    "engine.num_workers=0",
    "trainer.max_steps=2",
    "trainer.log_every_n_steps=1",
    "trainer.limit_train_batches=2",
    "trainer.check_val_every_n_epoch=1",
    "trainer.enable_progress_bar=false",
]


def test_the_coarse_stage_from_nothing_to_a_table(tmp_path: Path) -> None:
    name, few = "experiment=phantom/hcl_al_coarse", "evaluation.coarse.num_resamples=20"
    printed = run_verb("train", name, *SMALL, few, f"paths.run={tmp_path / 'run'}", folder=tmp_path)
    results = tmp_path / "run" / "coarse"
    assert json.loads((results / "results.json").read_text())["macros"]
    assert "coarse_top3" in printed and "generated" not in printed
    with (results / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows and all(len(row["coarse_labels"].split(",")) == 3 for row in rows)
