"""Runs that were stopped at any moment go on with the same batches and the same losses."""

import os
import signal
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torch.utils.data import Dataset

from medvlp.callbacks.exact_resume import ExactResume
from medvlp.data.resumable_loader import ResumableLoader, resumable_loader
from medvlp.data.sampling import GlobalBatchSampler, SampleKey

# Lightning's remarks on runs as tiny as these
pytestmark = pytest.mark.filterwarnings("ignore:::lightning")
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
        sampler = GlobalBatchSampler(4 * BATCHES + 3, 4, shuffle=True, drop_last=True)
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
        optimizer = torch.optim.AdamW(self.parameters(), lr=1e-2)
        rate = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": rate, "interval": "step"}}


class Save(Callback):
    """Saves once, in a hook, when so many steps are done."""

    def __init__(self, hook: str, step: int, path: Path) -> None:
        self.step, self.path = step, path
        setattr(self, hook, self.save)

    def save(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step >= self.step and not self.path.exists():
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


@cache
def straight(**options: Any) -> list[Step]:
    net = Net()
    run(net, **options)
    return net.steps


def assert_goes_on(path: Path, done: int, num_workers: int = 0, **options: Any) -> None:
    """Resume and compare every later step with that of a run that was not stopped."""
    net = Net()
    run(net, resume=path, num_workers=num_workers, **options)
    assert net.steps == straight(**options)[done:]


LIMITS = ({"max_epochs": 3}, {"max_steps": 13})
HOOKS = {  # hook, steps after which it saves, steps that are done then
    "mid-epoch": ("on_train_batch_end", 7, 7),
    "last batch": ("on_train_batch_end", 5, 5),
    "end of epoch": ("on_train_epoch_end", 5, 5),
    "after validation": ("on_validation_end", 5, 5),
}


@pytest.mark.parametrize("limit", LIMITS, ids=str)
@pytest.mark.parametrize("case", HOOKS)
def test_whenever_a_checkpoint_is_written(case: str, limit: dict[str, int], tmp_path: Path) -> None:
    hook, step, done = HOOKS[case]
    run(Net(), Save(hook, step, tmp_path / "x.ckpt"), **limit)
    assert_goes_on(tmp_path / "x.ckpt", done, **limit)


@pytest.mark.parametrize("limit", LIMITS, ids=str)
@pytest.mark.parametrize("stop", [8, 10])
def test_a_run_that_max_steps_ended_is_prolonged(
    stop: int, limit: dict[str, int], tmp_path: Path
) -> None:
    run(Net(), max_steps=stop, check_val_every_n_epoch=3).save_checkpoint(tmp_path / "x.ckpt")
    assert_goes_on(tmp_path / "x.ckpt", stop, check_val_every_n_epoch=3, **limit)


@pytest.mark.parametrize("limit", LIMITS, ids=str)
@pytest.mark.parametrize("at", [5, 7])
def test_a_step_that_fails_is_taken_again(at: int, limit: dict[str, int], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="broken"):
        run(Net(at, ValueError("broken")), Save("on_exception", 0, tmp_path / "x.ckpt"), **limit)
    assert_goes_on(tmp_path / "x.ckpt", at, **limit)


@pytest.mark.parametrize("at", [0, 3])
def test_an_interrupted_validation(at: int, tmp_path: Path) -> None:
    net = Net(at, ValueError("broken"), in_validation=True)
    with pytest.raises(ValueError, match="broken"):
        run(net, Save("on_exception", 0, tmp_path / "x.ckpt"), max_epochs=3)
    assert_goes_on(tmp_path / "x.ckpt", 5 + 5 * (at // 2), max_epochs=3)


@pytest.mark.parametrize(("at", "done"), [(9, 8), (10, 10), (11, 10)])
def test_half_an_accumulation_is_taken_again(at: int, done: int, tmp_path: Path) -> None:
    """Epochs of five batches in steps of 3 and 2; batch 8 is the fourth of the second epoch."""
    options = {"max_epochs": 3, "accumulate_grad_batches": 3}
    with pytest.raises(ValueError, match="broken"):
        run(Net(at, ValueError("broken")), Save("on_exception", 0, tmp_path / "x.ckpt"), **options)
    assert_goes_on(tmp_path / "x.ckpt", done, **options)


@pytest.mark.parametrize(("before", "after"), [(2, 0), (0, 2), (2, 1)])
def test_the_number_of_workers_may_change(before: int, after: int, tmp_path: Path) -> None:
    save = Save("on_train_batch_end", 7, tmp_path / "x.ckpt")
    run(Net(), save, max_epochs=3, num_workers=before)
    assert_goes_on(tmp_path / "x.ckpt", 7, num_workers=after, max_epochs=3)


def test_a_run_may_be_stopped_many_times(tmp_path: Path) -> None:
    done, path = 0, None
    while done < 15:
        net = Net(4, ValueError("broken"))
        following = tmp_path / f"{done}.ckpt"
        try:
            run(net, Save("on_exception", 0, following), resume=path, max_epochs=3)
        except ValueError:
            path = following
        assert net.steps == straight(max_epochs=3)[done : done + 4]
        done += len(net.steps)


@pytest.mark.parametrize(("accumulate", "stopped_after"), [(1, 8), (2, 9)])
def test_ctrl_c_lets_the_step_end(accumulate: int, stopped_after: int, tmp_path: Path) -> None:
    """Sent in batch 7, the third of an epoch; two to a step, the third and fourth go together."""
    options = {"max_epochs": 3, "accumulate_grad_batches": accumulate}
    net = Net(7, signal.SIGINT)
    with pytest.raises(SystemExit):
        run(net, Save("on_exception", 0, tmp_path / "x.ckpt"), **options)
    assert len(net.steps) == stopped_after
    assert_goes_on(tmp_path / "x.ckpt", stopped_after, **options)


def test_a_second_ctrl_c_stops_at_once(tmp_path: Path) -> None:
    class Impatient(Net):
        def fail(self) -> None:
            super().fail()
            super().fail()

    net = Impatient(7, signal.SIGINT)
    with pytest.raises(SystemExit):
        run(net, Save("on_exception", 0, tmp_path / "x.ckpt"), max_epochs=3)
    assert len(net.steps) == 7
    assert_goes_on(tmp_path / "x.ckpt", 7, max_epochs=3)


def test_ctrl_c_is_given_back(tmp_path: Path) -> None:
    class Look(Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
            assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler

    run(Net(), Look(), max_steps=1)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ranks_and_steps_draw_differently() -> None:
    class Module(Net):
        drawn: list[int]

        def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
            self.drawn = [*getattr(self, "drawn", []), torch.initial_seed()]

    net = Module()
    run(net, max_epochs=2)
    assert len(set(net.drawn)) == 10
