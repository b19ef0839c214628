"""The experiments on head twins go the whole way: write, prepare, train, test, evaluate."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SMALL = [
    "data.source.num_train=24",
    "data.source.num_test=9",
    "data.source.num_workers=0",
    "data.source.shape=[16,24,24]",
    "engine.num_workers=0",
    "data.batch_size=6",
    "trainer.max_steps=2",
    "trainer.check_val_every_n_epoch=1",
    "trainer.limit_train_batches=2",
    "trainer.enable_progress_bar=false",
]
EXPERIMENTS = {"hlip_brainmri": "diagnosis", "hlip_headct": "bleeding"}


def run_verb(verb: str, *arguments: str, folder: Path) -> str:
    environment = os.environ | {
        "MEDVLP_DATA": str(folder / "data"),
        "MEDVLP_OUTPUTS": str(folder / "outputs"),
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [sys.executable, "-m", f"medvlp.{verb}", *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-5000:]
    return done.stdout


@pytest.mark.parametrize(("experiment", "evaluation"), EXPERIMENTS.items())
def test_from_nothing_to_a_table_and_again_from_the_checkpoint(experiment, evaluation, tmp_path):
    if experiment == "hlip_headct":
        pytest.importorskip("pydicom")
    again = tmp_path / "again"
    few = f"evaluation.{evaluation}.num_resamples=20"
    name = f"experiment=phantom/{experiment}"
    run_verb("train", name, *SMALL, few, folder=tmp_path)
    (run,) = (tmp_path / "outputs" / "phantom" / experiment).glob("20*")
    results = json.loads((run / evaluation / "results.json").read_text())
    assert results["num_samples"] == 9
    assert results["macros"]
    checkpoint = next((run / "checkpoints").glob("*.ckpt"))
    run_verb("evaluate", "test", f"--ckpt_path={checkpoint}", f"paths.run={again}", folder=tmp_path)
    first, second = (f / evaluation / "table.md" for f in (run, again))
    assert second.read_text() == first.read_text()
