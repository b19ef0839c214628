"""Slurm's warning ends a run between steps, with a checkpoint and one call of `scontrol`."""

import logging
import os
import signal
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import lightning.pytorch as pl
import pytest

from medvlp import slurm
from medvlp.callbacks.slurm_requeue import SlurmRequeue
from tests.callbacks.slurm_job import JOB, calls, leave, resumed, run_in_job, stand_in
from tests.callbacks.stoppable import Data, Net, Step, run
from tests.distributed.ranks import run_launched

# Lightning's remarks on runs as tiny as these
pytestmark = pytest.mark.filterwarnings("ignore:::lightning")
REQUEUED = ["requeue 4711"]


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for name, value in JOB.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PATH", stand_in(tmp_path))
    before = signal.getsignal(signal.SIGUSR1)
    yield tmp_path
    signal.signal(signal.SIGUSR1, before)


@cache
def straight() -> list[Step]:
    net = Net()
    run(net, max_epochs=3)
    return net.steps


@pytest.mark.parametrize(("at", "accumulate", "done"), [(7, 1, 8), (4, 1, 5), (7, 2, 9)])
def test_the_step_ends_and_the_job_is_requeued(
    at: int, accumulate: int, done: int, job: Path
) -> None:
    net = Net(at, signal.SIGUSR1)
    with pytest.raises(SystemExit):
        run_in_job(net, SlurmRequeue(str(job)), max_epochs=3, accumulate_grad_batches=accumulate)
    assert len(net.steps) == done
    assert calls(job) == REQUEUED
    if accumulate == 1:
        assert resumed(job / "interrupted.ckpt") == straight()[done:]


def test_a_warning_in_the_last_step_still_counts(job: Path) -> None:
    with pytest.raises(SystemExit):
        run_in_job(Net(7, signal.SIGUSR1), SlurmRequeue(str(job)), max_steps=8, limit_val_batches=0)
    assert calls(job) == REQUEUED


def test_a_validation_is_not_waited_for(job: Path) -> None:
    class Impatient(Net):
        def fail(self) -> None:
            super().fail()
            assert calls(job) == REQUEUED
            raise ValueError("Slurm ends the process")

    net = Impatient(1, signal.SIGUSR1, in_validation=True)
    with pytest.raises(ValueError, match="Slurm ends the process"):
        run_in_job(net, SlurmRequeue(str(job)), max_epochs=3)


def test_a_job_is_requeued_once_though_it_gets_beyond_the_validation(job: Path) -> None:
    net = Net(1, signal.SIGUSR1, in_validation=True)
    with pytest.raises(SystemExit):
        run_in_job(net, SlurmRequeue(str(job)), max_epochs=3)
    assert calls(job) == REQUEUED
    assert len(net.steps) == 5 and (job / "interrupted.ckpt").is_file()


def test_a_test_that_fails_leaves_no_checkpoint(tmp_path: Path) -> None:
    class Failing(Net):
        def test_step(self, batch: object, batch_idx: int) -> None:
            raise ValueError("in the test")

    net = Failing()
    trainer = run(net, SlurmRequeue(str(tmp_path)), enable_checkpointing=True, max_steps=1)
    with pytest.raises(ValueError, match="in the test"):
        trainer.test(net, Data().val_dataloader(), verbose=False)
    assert not list(tmp_path.iterdir())


def test_all_ranks_leave_after_the_same_step(tmp_path: Path) -> None:
    ranks = run_launched(leave, 2, 2, tmp_path, 1, signal.SIGUSR1)
    assert [rank["steps"] for rank in ranks] == [8, 8]  # the next step that is a multiple of 4
    assert calls(tmp_path) == REQUEUED
    found = [step.samples for step in resumed(tmp_path / "interrupted.ckpt")]
    assert found == [step.samples for step in straight()[8:]]


class Look(SlurmRequeue):
    """Remembers who answers the signal while training."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.handler = signal.getsignal(signal.SIGUSR1)


def test_it_listens_while_training_under_slurm(job: Path) -> None:
    before = signal.getsignal(signal.SIGUSR1)
    look = Look(str(job))
    run_in_job(Net(), look, max_steps=1)
    assert look.handler == look._answer and signal.getsignal(signal.SIGUSR1) == before


def test_elsewhere_it_does_not(tmp_path: Path) -> None:
    look = Look(str(tmp_path))
    run_in_job(Net(), look, max_steps=1)
    assert look.handler == signal.getsignal(signal.SIGUSR1) != look._answer


def test_workers_of_the_loader_do_not_answer(job: Path) -> None:
    keep = SlurmRequeue(str(job))
    keep._process = os.getpid() + 1
    keep._answer(signal.SIGUSR1, None)
    assert not keep._asked


@pytest.mark.parametrize(
    ("code", "restarts", "words"),
    [(0, "0", "requeued job 4711"), (1, "0", "(refused)"), (0, "30", "30 times already")],
)
def test_the_log_says_what_became_of_it(
    code: int, restarts: str, words: str, job: Path,
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    stand_in(job, code)
    monkeypatch.setenv("SLURM_RESTART_COUNT", restarts)
    with caplog.at_level(logging.INFO, "medvlp.slurm"):
        slurm.requeue("4711", max_requeues=30)
    assert words in caplog.text


def test_without_scontrol_the_log_says_so(job: Path, monkeypatch, caplog) -> None:
    monkeypatch.setenv("PATH", str(job / "nowhere"))
    slurm.requeue("4711", max_requeues=30)
    assert "submit it once more" in caplog.text


def test_the_run_folder_stays_the_same(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert slurm.run_stamp("today") == "job_4711_step_0"
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "4700")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "2")
    assert slurm.run_stamp("today") == "job_4700_2_step_0"
    monkeypatch.setenv("SLURM_JOB_NAME", "bash")  # srun --pty bash
    assert slurm.run_stamp("today") == "today"


def test_a_requeued_job_goes_on_from_the_newest_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for age, name in enumerate(("interrupted", "recent")):
        (tmp_path / f"{name}.ckpt").touch()
        os.utime(tmp_path / f"{name}.ckpt", (1000 - age, 1000 - age))
    assert slurm.checkpoint_of_requeued(tmp_path) is None
    monkeypatch.setenv("SLURM_RESTART_COUNT", "2")
    assert slurm.checkpoint_of_requeued(tmp_path) == tmp_path / "interrupted.ckpt"
    assert slurm.checkpoint_of_requeued(tmp_path / "new") is None
    assert "starting over" in caplog.text and "paths.run=" in caplog.text
