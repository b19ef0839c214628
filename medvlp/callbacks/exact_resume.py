"""Training that was stopped goes on as if it had not been: same samples, same chance, same losses.

The loader knows its place in the epoch (`ResumableLoader`). This callback does the rest: chance
inside the network follows from the step alone, Ctrl-C waits for the end of a step, and checkpoints
say what really was done, whenever they are written.
"""

import logging
import math
import signal
from types import FrameType
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback

_LOG = logging.getLogger(__name__)


class ExactResume(Callback):
    """Make every checkpoint one to go on from, to the same losses bit by bit on a CPU.

    - Dropout and the like are drawn from a seed of their own for each epoch, batch and rank, so
      that nothing needs to be remembered of torch's generators.
    - Lightning counts a batch in flight, batches of an accumulation that no optimizer step has
      followed, and an epoch that `max_steps` cut short, in ways that lose or repeat samples on
      resuming. Here a checkpoint always says: the epoch, and the batches of it whose optimizer
      step is in the weights. Batches after that are given again.
    - The first Ctrl-C lets the step end, so that no half-made step is written; a second one stops
      at once. With several processes, which would have to agree on the step, it stops at once.

    Args:
        seed: Of the run.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self._interrupted = False
        self._previous: Any = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Find the place in the epoch; take charge of Ctrl-C, which would stop within a step."""
        # where max_epochs is set the loader was built, to count steps, before the place was known
        trainer.fit_loop._load_combined_loader_states()
        self._interrupted = False
        untouched = signal.getsignal(signal.SIGINT) is signal.default_int_handler
        if trainer.world_size == 1 and untouched:
            self._previous = signal.signal(signal.SIGINT, self._answer)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Stop between steps if asked to; else seed the step."""
        if self._interrupted and not count_open_batches(trainer):
            raise KeyboardInterrupt
        place = (self.seed, trainer.current_epoch, batch_idx, trainer.global_rank)
        torch.manual_seed(int(np.random.SeedSequence(place).generate_state(1, np.uint64)[0]))

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop before a validation as well: it comes between steps and may take long."""
        if self._interrupted:
            raise KeyboardInterrupt

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Give Ctrl-C back; one that came in the last step still counts."""
        self._give_back()
        if self._interrupted:
            raise KeyboardInterrupt

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Give Ctrl-C back."""
        self._give_back()

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Write the counters of the last finished optimizer step.

        All checkpoints then look as if they were written at the end of that step's batch, a state
        that Lightning resumes from correctly in the middle of an epoch and at its end.
        """
        progress, epochs = _progress(trainer)
        per_epoch, open_batches = trainer.num_training_batches, count_open_batches(trainer)
        countable = pl_module.automatic_optimization and math.isfinite(per_epoch)
        if not countable or not progress.total.ready:
            return
        epoch = epochs.current.started - 1
        batch = progress.current.processed - open_batches
        if batch == 0 and epoch > 0:
            epoch, batch = epoch - 1, int(per_epoch)
        loops = checkpoint["loops"]["fit_loop"]
        _set_epoch(loops["epoch_progress"], epoch)
        counters = loops["epoch_loop.batch_progress"]
        _set_batch(counters, batch, progress.total.processed - open_batches)
        counters["is_last_batch"] = batch == per_epoch
        loops["epoch_loop.state_dict"]["_batches_that_stepped"] = trainer.global_step - 1
        for loader in loops["state_dict"].get("combined_loader", ()):
            if "batch" in loader:
                loader.update(epoch=epoch, batch=batch)

    def _answer(self, number: int, frame: FrameType | None) -> None:
        self._give_back()  # the next one stops at once
        self._interrupted = True
        _LOG.warning("stopping after this step; Ctrl-C once more stops at once")

    def _give_back(self) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)
            self._previous = None


def _progress(trainer: pl.Trainer) -> tuple[Any, Any]:
    """Return Lightning's counters of batches and of epochs, whose types hide what they count."""
    return trainer.fit_loop.epoch_loop.batch_progress, trainer.fit_loop.epoch_progress


def count_open_batches(trainer: pl.Trainer) -> int:
    """Count the batches since the last optimizer step; there is one at the end of an epoch."""
    done = _progress(trainer)[0].current.processed
    return 0 if done == trainer.num_training_batches else done % trainer.accumulate_grad_batches


def _set_epoch(progress: dict[str, Any], epoch: int) -> None:
    """Say that an epoch is under way."""
    shift = epoch + 1 - progress["current"]["started"]
    for counter in (progress["total"], progress["current"]):
        started = counter["started"] + shift
        counter.update(ready=started, started=started, processed=started - 1, completed=started - 1)


def _set_batch(progress: dict[str, Any], current: int, total: int) -> None:
    """Say that so many batches were processed and the last one is about to be completed."""
    for name, count in (("current", current), ("total", total)):
        completed = max(count - 1, 0)
        progress[name].update(ready=count, started=count, processed=count, completed=completed)
