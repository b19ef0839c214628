"""A checkpoint when a run ends early; under Slurm, also when its time is nearly up."""

import os
import signal
from types import FrameType
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import OnExceptionCheckpoint
from lightning.pytorch.trainer.states import TrainerFn

from medvlp import slurm
from medvlp.callbacks.exact_resume import count_open_batches


class SlurmRequeue(OnExceptionCheckpoint):
    """Write a checkpoint if training ends early; on Slurm's warning, requeue the job as well.

    `sbatch --signal=USR1@300` sends SIGUSR1 to every process of the job's steps 300 s before its
    time is up. Lightning would save then and there, in the middle of a step and on each rank by
    itself. Here all ranks end the same step, write one checkpoint, and rank 0 requeues the job.
    Started again, `medvlp.train` goes on from the newest checkpoint of the run folder.

    A validation or test is not waited for: the job is requeued at once, and repeats what followed
    the newest checkpoint.

    Args:
        dirpath: Of the checkpoint.
        filename: Of the checkpoint, without ".ckpt".
        every_n_steps: With several ranks: optimizer steps after which they ask each other.
        max_requeues: A job that was started again so often is left to end.
    """

    def __init__(
        self,
        dirpath: str,
        filename: str = "interrupted",
        *,
        every_n_steps: int = 10,
        max_requeues: int = 30,
    ) -> None:
        super().__init__(dirpath, filename)
        self.every_n_steps = every_n_steps
        self.max_requeues = max_requeues
        self._job = slurm.job_id()
        self._process = os.getpid()
        self._asked = self._leaving = self._requeued = False
        self._trainer: pl.Trainer | None = None
        self._previous: Any = None

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Listen to SIGUSR1; Lightning leaves a signal alone that has a handler."""
        if self._job is None:
            return
        self._trainer = trainer
        if signal.getsignal(signal.SIGUSR1) != self._answer:
            self._previous = signal.signal(signal.SIGUSR1, self._answer)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Leave between two optimizer steps if a rank was asked to."""
        due = trainer.world_size == 1 or trainer.global_step % self.every_n_steps == 0
        if due and not count_open_batches(trainer):
            self._leave_if_asked(trainer)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave before a validation: it may take long."""
        self._leave_if_asked(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave before a test."""
        self._leave_if_asked(trainer)

    def on_exception(self, trainer: pl.Trainer, *args: Any, **kwargs: Any) -> None:
        """Write the checkpoint, then requeue the job where it is Slurm that ends the run.

        A test that fails writes none: its weights are the best ones, not those to go on from.
        """
        if trainer.state.fn == TrainerFn.FITTING:
            super().on_exception(trainer, *args, **kwargs)
        if self._leaving:
            self._requeue(trainer)
            # a rank that ends first would have srun end the others
            trainer.strategy.barrier("requeue")

    def teardown(self, trainer: pl.Trainer, *args: Any, **kwargs: Any) -> None:
        """Remove the checkpoint of a run that came to its end."""
        super().teardown(trainer, *args, **kwargs)
        if self._previous is not None:
            signal.signal(signal.SIGUSR1, self._previous)
            self._previous = None

    def _leave_if_asked(self, trainer: pl.Trainer) -> None:
        if self._job is None or not trainer.fit_loop.epoch_loop.batch_progress.total.ready:
            return
        if trainer.strategy.reduce_boolean_decision(self._asked, all=False):
            self._leaving = True
            raise KeyboardInterrupt

    def _answer(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # a worker of the loader, which inherits this handler
            return
        self._asked = True
        if self._trainer is not None and not self._trainer.training:
            self._requeue(self._trainer)

    def _requeue(self, trainer: pl.Trainer) -> None:
        if self._job is not None and trainer.is_global_zero and not self._requeued:
            self._requeued = True  # until Slurm ends the process a step or two may pass
            slurm.requeue(self._job, self.max_requeues)
