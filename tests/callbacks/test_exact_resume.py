"""Runs that were stopped at any moment go on with the same batches and the same losses."""

import signal
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import Callback

from tests.callbacks.stoppable import Net, Save, Step, run
from tests.callbacks.stoppable_ranks import epochs
from tests.distributed.ranks import run_launched

# Lightning's remarks on runs as tiny as these
pytestmark = pytest.mark.filterwarnings("ignore:::lightning")


@pytest.fixture(autouse=True)
def _heed_ctrl_c() -> Iterator[None]:
    """A shell starts what runs in its background with Ctrl-C ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


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


def test_the_number_of_ranks_may_change(tmp_path: Path) -> None:
    save = Save("on_train_batch_end", 7, tmp_path / "x.ckpt")
    run(Net(), save, max_epochs=3)
    ranks = run_launched(epochs, 2, 2, tmp_path / "x.ckpt", tmp_path / "y.ckpt")
    parts = [[tuple(samples) for samples in rank["samples"]] for rank in ranks]
    together = [first + second for first, second in zip(*parts, strict=True)]
    assert together == [step.samples for step in straight(max_epochs=3)[7:]]
    net = Net()  # and back, from what two ranks saved in the middle of the last epoch
    run(net, resume=tmp_path / "y.ckpt", max_epochs=3)
    assert [step.samples for step in net.steps] == together[5:]


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
