"""A callback that warns its process in the middle of a step, as Slurm does before a time limit."""

import os
import signal
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback


class SignalledAt(Callback):
    """Send SIGUSR1 to this process when so many optimizer steps are done and one is under way."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_before_optimizer_step(self, trainer: pl.Trainer, *_: Any) -> None:
        """Come after the gradients and before the weights."""
        if trainer.global_step == self.step:
            os.kill(os.getpid(), signal.SIGUSR1)
