import os
import re
import signal
import subprocess
import sys
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import Dataset

from medvlp.data.batching import SampleFacts, SimilarLength
from medvlp.data.readers.registry import read
from medvlp.data.resumable_loader import ResumableLoader, resumable_loader
from medvlp.data.sampling import GlobalBatchSampler, SampleKey
from medvlp.user_errors import one_line_errors, user_message


class Numbers(Dataset[Any]):
    """Samples that are their keys; sample 5 fails as it is told."""

    def __init__(self, failure: str = "") -> None:
        self.failure = failure

    def __getitem__(self, keys: list[SampleKey]) -> list[int]:
        if self.failure and 5 in [key.sample for key in keys]:
            fail(self.failure)
        return [100 * key.epoch + key.sample for key in keys]


def fail(how: str) -> None:
    if how == "user":
        read(Path("/nowhere/scan.unknown"))
    elif how == "machine":
        Path("/nowhere/scan.nii.gz").read_bytes()
    elif how == "mistake":
        int("five")
    elif how == "shapes":
        torch.zeros(2) + torch.zeros(3)
    else:
        os.kill(os.getpid(), signal.SIGKILL)


def loader(
    num_workers: int = 0,
    dataset: Dataset[Any] | None = None,
    *,
    num_samples: int = 22,
    batch_size: int = 4,
    world: tuple[int, int] = (0, 1),
    **options: Any,
) -> ResumableLoader:
    sampler = GlobalBatchSampler(
        num_samples,
        batch_size,
        shuffle=True,
        drop_last=True,
        rank=world[0],
        world_size=world[1],
        **options,
    )
    return resumable_loader(
        dataset or Numbers(), sampler, collate=torch.tensor, num_workers=num_workers
    )


def epoch(made: ResumableLoader, number: int) -> list[list[int]]:
    made.sampler.set_epoch(number)
    return [batch.tolist() for batch in made]


def stopped(made: ResumableLoader, number: int, after: int) -> dict[str, Any]:
    made.sampler.set_epoch(number)
    passing = iter(made)
    for _ in islice(passing, after):
        pass
    return made.state_dict()


@pytest.mark.parametrize("before", [0, 2])
@pytest.mark.parametrize("after", [0, 1, 2])
def test_it_goes_on_where_it_was(before: int, after: int) -> None:
    state = stopped(loader(before), 3, after=2)
    assert (state["epoch"], state["batch"]) == (3, 2)  # not what workers fetched ahead
    resumed = loader(after)
    resumed.load_state_dict(state)
    assert resumed.state_dict() == state
    assert epoch(resumed, 3) == epoch(loader(), 3)[2:]
    assert resumed.state_dict()["batch"] == len(resumed) == 5
    assert epoch(resumed, 4) == epoch(loader(), 4)


def test_without_being_told_the_epoch() -> None:
    resumed = loader()
    resumed.load_state_dict(stopped(loader(), 3, after=2))
    assert [batch.tolist() for batch in resumed] == epoch(loader(), 3)[2:]


def test_the_number_of_ranks_may_change() -> None:
    state = stopped(loader(world=(0, 1)), 1, after=2)
    parts = []
    for rank in range(2):
        resumed = loader(world=(rank, 2))
        resumed.load_state_dict(state)
        parts.append(epoch(resumed, 1))
    assert [a + b for a, b in zip(*parts, strict=True)] == epoch(loader(), 1)[2:]


def test_an_epoch_that_has_not_begun_is_at_its_start() -> None:
    made = loader()
    assert made.state_dict()["batch"] == 0
    epoch(made, 0)
    made.sampler.set_epoch(1)
    assert (made.state_dict()["epoch"], made.state_dict()["batch"]) == (1, 0)


def test_another_epoch_begins_at_its_start() -> None:
    resumed = loader()
    resumed.load_state_dict(stopped(loader(), 3, after=5))
    assert epoch(resumed, 4) == epoch(loader(), 4)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_pass_that_was_left_does_not_disturb_the_next(num_workers: int) -> None:
    made = loader(num_workers)
    stopped(made, 0, after=2)
    assert epoch(made, 1) == epoch(loader(), 1)


CHANGES: dict[str, dict[str, Any]] = {
    "batch_size was 4 and is 2": {"batch_size": 2},
    "num_samples was 22 and is 30": {"num_samples": 30},
    "seed was 0 and is 1": {"seed": 1},
    r"'window': 2": {"batching": SimilarLength(2)},
}


@pytest.mark.parametrize("message", CHANGES)
def test_other_batches_are_refused_within_an_epoch_only(message: str) -> None:
    resumed = loader(**CHANGES[message])
    resumed.load_state_dict(stopped(loader(), 3, after=2))
    with pytest.raises(ValueError, match=f"in epoch 3 after 2 batches, and .*{message}"):
        epoch(resumed, 3)
    resumed.load_state_dict(stopped(loader(), 3, after=5))
    assert epoch(resumed, 4) == epoch(loader(**CHANGES[message]), 4)


def test_other_samples_of_the_same_number_are_refused() -> None:
    def made(digest: str) -> ResumableLoader:
        facts = SampleFacts.uniform(8)
        facts = SampleFacts(facts.num_scans, facts.text_length, digest)
        sampler = GlobalBatchSampler(facts, 2, shuffle=True, drop_last=True)
        return resumable_loader(Numbers(), sampler, collate=torch.tensor)

    resumed = made("b")
    resumed.load_state_dict(stopped(made("a"), 0, after=1))
    with pytest.raises(ValueError, match="samples was 'a' and is 'b'"):
        epoch(resumed, 0)


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("failure", ["user", "machine"])
def test_an_error_is_one_line_wherever_it_happens(failure: str, num_workers: int) -> None:
    with pytest.raises((ValueError, OSError)) as caught:
        epoch(loader(num_workers, Numbers(failure)), 0)
    with pytest.raises((ValueError, OSError)) as direct:
        fail(failure)
    assert user_message(caught.value) == user_message(direct.value)
    with pytest.raises(SystemExit, match=r"^medvlp: [^\n]*/nowhere/scan[^\n]*$"), one_line_errors():
        raise caught.value
    if num_workers:
        assert "in a loader worker:\nTraceback" in caught.value.__notes__[0]


MISTAKES = {"mistake": (ValueError, r'int\("five"\)'), "shapes": (RuntimeError, r"zeros\(3\)")}


@pytest.mark.parametrize("failure", MISTAKES)
def test_a_mistake_in_the_code_keeps_the_traceback_of_the_worker(failure: str) -> None:
    kind, line = MISTAKES[failure]
    with pytest.raises(kind, match=rf"(?s)worker process.*Traceback.*{line}") as caught:
        epoch(loader(2, Numbers(failure)), 0)
    assert user_message(caught.value) is None


def lose_a_worker() -> None:
    """Run as a process of its own: PyTorch tells of a lost worker by a signal, at any time."""
    with one_line_errors():
        epoch(loader(2, Numbers("killed")), 0)


def test_a_worker_that_is_killed() -> None:
    code = f"from {__name__} import lose_a_worker; lose_a_worker()"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[2], capture_output=True, text=True
    )
    assert done.returncode == 1
    told = r"^medvlp: a process that loads data was ended from outside \(.*lower data"
    assert re.search(told, done.stderr, re.MULTILINE), done.stderr


def test_ctrl_c_is_not_for_workers() -> None:
    made = loader(2)
    batches = iter(made)
    first = [next(batches).tolist() for _ in range(2)]  # one of each worker: both have begun
    for worker in made._iterator._workers:  # type: ignore[union-attr]
        os.kill(worker.pid, signal.SIGINT)
    assert [*first, *(batch.tolist() for batch in batches)] == epoch(loader(), 0)
