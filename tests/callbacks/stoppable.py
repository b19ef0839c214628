"""A training run of milliseconds that can be stopped anywhere and remembers its steps."""

import os
import signal
from pathlib import Path
from typing import Any, NamedTuple

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torch.utils.data import Dataset

from medvlp.callbacks.exact_resume import ExactResume
from medvlp.data.resumable_loader import ResumableLoader, resumable_loader
from medvlp.data.sampling import GlobalBatchSampler, SampleKey

BATCHES = 5  # of an epoch


class Numbers(Dataset[Any]):
    """Samples that are their keys."""

    def __getitem__(self, keys: list[SampleKey]) -> list[SampleKey]:
        return keys


def collate(keys: list[SampleKey]) -> dict[str, Any]:
    rows = [torch.randn(6, generator=torch.Generator().manual_seed(hash(key))) for key in keys]
    return {"x": torch.stack(rows), "samples": [key.sample for key in keys]}


class Data(pl.LightningDataModule):
    def __init__(self, num_workers: int = 0) -> None:
        super().__init__()
        self.num_workers = num_workers

    def train_dataloader(self) -> ResumableLoader:
        ranks: dict[str, int] = {}
        if self.trainer is not None:
            ranks = {"rank": self.trainer.global_rank, "world_size": self.trainer.world_size}
        sampler = GlobalBatchSampler(4 * BATCHES + 3, 4, shuffle=True, drop_last=True, **ranks)
        return resumable_loader(Numbers(), sampler, collate=collate, num_workers=self.num_workers)

    def val_dataloader(self) -> ResumableLoader:
        sampler = GlobalBatchSampler(8, 4, shuffle=False, drop_last=False)
        return resumable_loader(Numbers(), sampler, collate=collate)


class Step(NamedTuple):
    epoch: int
    batch: int
    global_step: int
    samples: tuple[int, ...]
    loss: float


class Net(pl.LightningModule):
    """A net with dropout that records its steps.

    Args:
        fail_at: Number of the step (of this run, from 0) or of the validation that fails.
        failure: What it fails with; a signal is sent to this process.
    """

    def __init__(self, fail_at: int = -1, failure: Any = None, in_validation: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.5), nn.Linear(8, 1))
        self.steps: list[Step] = []
        self.fail_at, self.failure, self.in_validation = fail_at, failure, in_validation
        self.validations = 0

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        if not self.in_validation and self.fail_at == len(self.steps):
            self.fail()
        loss = self.net(batch["x"]).square().mean()
        place = (self.current_epoch, batch_idx, self.trainer.global_step)
        self.steps.append(Step(*place, tuple(batch["samples"]), loss.item()))
        return loss

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        if self.in_validation and self.fail_at == self.validations:
            self.fail()
        self.validations += 1

    def fail(self) -> None:
        if isinstance(self.failure, signal.Signals):
            os.kill(os.getpid(), self.failure)
        else:
            raise self.failure

    def configure_optimizers(self) -> Any:
        # as the systems' schedules do: under max_epochs it builds the loader too early
        assert self.trainer.estimated_stepping_batches > 0
        optimizer = torch.optim.AdamW(self.parameters(), lr=1e-2)
        rate = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": rate, "interval": "step"}}


class Save(Callback):
    """Saves once, in a hook, when so many steps are done."""

    def __init__(self, hook: str, step: int, path: Path) -> None:
        self.step, self.path, self.saved = step, path, False
        setattr(self, hook, self.save)

    def save(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step >= self.step and not self.saved:
            self.saved = True
            trainer.save_checkpoint(self.path)


def run(
    net: Net, *callbacks: Callback, resume: Path | None = None, num_workers: int = 0, **options: Any
) -> pl.Trainer:
    settings: dict[str, Any] = {
        "accelerator": "cpu",
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "use_distributed_sampler": False,
        "num_sanity_val_steps": 0,
        "callbacks": [ExactResume(), *callbacks],
    }
    trainer = pl.Trainer(**settings | options)
    handler = signal.getsignal(signal.SIGINT)
    try:
        trainer.fit(net, Data(num_workers), ckpt_path=resume, weights_only=True)
    finally:
        signal.signal(signal.SIGINT, handler)  # Lightning ignores it after it has answered
    return trainer
