"""The two-token experiment goes the whole way in chunks: write, prepare, train, test, evaluate."""

import csv
import json

from tests.smoke.test_embedded_default import run_verb

SMALL = [
    "experiment=phantom/hlip_mrrate",
    "data.source.num_train=24",
    "data.source.num_test=9",
    "data.source.num_workers=0",
    "data.source.shape=[16,24,24]",
    "engine.num_workers=0",
    "data.batch_size=6",
    "evaluation.mr_rate.num_resamples=20",
    "trainer.max_steps=2",
    "trainer.log_every_n_steps=1",
    "trainer.check_val_every_n_epoch=1",
    "trainer.limit_train_batches=2",
    "trainer.enable_progress_bar=false",
]


def test_from_nothing_to_a_table_and_again_from_the_checkpoint(tmp_path):
    run_verb("train", *SMALL, "++model.forward_chunks=2", folder=tmp_path)
    (run,) = (tmp_path / "outputs/phantom/hlip_mrrate").glob("20*")
    with open(run / "csv/metrics.csv") as file:
        steps = [row for row in csv.DictReader(file) if row["train/loss"]]
    assert len(steps) == 2
    for row in steps:
        parts = [float(row[f"train/{name}"]) for name in ("loss", "sentence", "report")]
        assert abs(parts[0] - (parts[1] + parts[2]) / 2) < 1e-5
    results = json.loads((run / "mr_rate/results.json").read_text())
    assert len(results["findings"]) + len(results["skipped"]) == 37
    checkpoint = next((run / "checkpoints").glob("*.ckpt"))
    again = tmp_path / "again"
    run_verb("evaluate", "test", f"--ckpt_path={checkpoint}", f"paths.run={again}", folder=tmp_path)
    first, second = (folder / "mr_rate/table.md" for folder in (run, again))
    assert second.read_text() == first.read_text()
