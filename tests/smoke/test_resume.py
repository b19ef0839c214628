"""Runs that were killed, or requeued by Slurm, log the losses of one that was not stopped."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.callbacks.slurm_job import JOB, calls, stand_in
from tests.smoke.test_embedded_default import SMALL, run_folder, run_verb

REPOSITORY = Path(__file__).parents[2]
RUN = [
    *SMALL,
    "data.batch_size=2",
    "trainer.max_steps=9",
    "trainer.log_every_n_steps=1",
    "trainer.check_val_every_n_epoch=50",
    "trainer.accumulate_grad_batches=2",
    "model.vision.patch_drop_prob=0.25",
    "callbacks.recent.every_n_train_steps=3",
    "test=false",
]
WORKERS = ["data.in_memory=false", "data.num_workers=2"]
KILLED = ["+callbacks.killed._target_=tests.smoke.killed.KilledAt", "+callbacks.killed.step=8"]
WARNED = [  # in the fifth step, which is half done
    "+callbacks.signalled._target_=tests.smoke.signalled.SignalledAt",
    "+callbacks.signalled.step=4",
]
TASK = {  # what srun says to the only task of a job on one node
    "SLURM_NTASKS": "1",
    "SLURM_NTASKS_PER_NODE": "1",
    "SLURM_NNODES": "1",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
    "SLURM_NODEID": "0",
}


def steps(run: Path, log: str = "csv") -> dict[int, str]:
    """Read the training loss of each step as it was written."""
    with open(run / log / "metrics.csv") as file:
        rows = list(csv.DictReader(file))
    return {int(row["step"]): row["train/loss"] for row in rows if row["train/loss"]}


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[int, str]]:
    folder = tmp_path_factory.mktemp("resume")
    run_verb("train", *RUN, folder=folder)
    return folder, steps(run_folder(folder))


def start(folder: Path, *overrides: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Train in a process that may end early."""
    environment = os.environ | {
        "MEDVLP_DATA": str(folder / "data"),
        "MEDVLP_OUTPUTS": str(folder / "outputs"),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(REPOSITORY),
    }
    return subprocess.run(
        [sys.executable, "-m", "medvlp.train", *RUN, *overrides],
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment | variables,
    )


def killed(folder: Path, *overrides: str) -> Path:
    """Train until the process is killed and return the last checkpoint."""
    done = start(folder, *KILLED, *overrides)
    assert done.returncode == -9, done.stderr[-3000:]
    return run_folder(folder) / "checkpoints" / "recent.ckpt"


def test_a_killed_run_goes_on_bit_by_bit(straight: tuple[Path, dict[int, str]]) -> None:
    folder, expected = straight
    assert sorted(expected) == list(range(9)) and len(set(expected.values())) == 9
    checkpoint = killed(folder, *WORKERS)
    run_verb("train", *RUN, f"ckpt_path={checkpoint}", folder=folder)
    assert steps(run_folder(folder)) == {step: expected[step] for step in (6, 7, 8)}


def test_a_requeued_job_goes_on_bit_by_bit(straight: tuple[Path, dict[int, str]]) -> None:
    folder, expected = straight
    job = JOB | TASK | {"PATH": stand_in(folder)}
    first = start(folder, *WARNED, **job)
    assert first.returncode == 1 and "stopped at step 5" in first.stderr, first.stderr[-3000:]
    assert calls(folder) == ["requeue 4711"]

    again = start(folder, *WARNED, **job, SLURM_RESTART_COUNT="1")  # the same command
    assert again.returncode == 0, again.stderr[-3000:]
    run = folder / "outputs/phantom/hlip_ctrate/job_4711_step_0"
    assert f"going on from {run}/checkpoints/interrupted.ckpt" in again.stdout
    before, after = steps(run), steps(run, "csv1")
    assert sorted(after) == [5, 6, 7, 8]
    assert before | after == expected
