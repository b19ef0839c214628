"""Workers fill shared memory again, and never while somebody still looks at it."""

import gc
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from medvlp.data import recycled_memory
from medvlp.data.batch_memory import stack
from medvlp.data.batching import SampleFacts
from medvlp.data.recycled_memory import WorkerMemory
from medvlp.data.resumable_loader import ResumableLoader, resumable_loader
from medvlp.data.sampling import GlobalBatchSampler, SampleKey

NUMBERS = 300_000  # of a row: more than a MiB


class _Rows(Dataset[Any]):
    """Row i is full of i; `short` rows are a third as long."""

    def __init__(self, num_rows: int, *, short: Sequence[int] = ()) -> None:
        self.num_rows, self.short = num_rows, tuple(short)

    def __len__(self) -> int:
        return self.num_rows

    def __getitem__(self, keys: Sequence[SampleKey]) -> list[Tensor]:
        index = keys[0].sample
        length = NUMBERS // 3 if index in self.short else NUMBERS
        return [torch.full((length,), float(index)) for _ in range(2)]


def collate(rows: list[Tensor]) -> dict[str, Any]:
    image = stack(rows)
    small = torch.tensor([int(image[0, 0])])
    place = os.getpid(), image.data_ptr()
    return {"image": image, "same": image, "second": image[1], "small": small, "at": place}


def loader(rows: _Rows, *, num_workers: int = 1) -> ResumableLoader:
    ones = np.ones(len(rows), np.int64)
    sampler = GlobalBatchSampler(
        SampleFacts(ones, ones, "x"),
        1,
        shuffle=False,
        drop_last=False,
        seed=0,
        rank=0,
        world_size=1,
    )
    return resumable_loader(rows, sampler, collate=collate, num_workers=num_workers)


def test_batches_arrive_whole_and_their_memory_is_used_again() -> None:
    batches = loader(_Rows(40))
    places = list[tuple[int, int]]()
    for _ in range(2):  # epochs
        for number, batch in enumerate(batches):
            assert list(batch) == ["image", "same", "second", "small", "at"]
            assert batch["image"].shape == (2, NUMBERS) and batch["second"].shape == (NUMBERS,)
            for name in ("image", "same", "second", "small"):
                assert (batch[name] == number).all(), name
            assert batch["same"].data_ptr() == batch["image"].data_ptr()
            places.append(batch["at"])
    assert len(places) == 80 and len(set(places)) <= 6  # two are fetched ahead


def test_who_keeps_batches_keeps_their_numbers() -> None:
    batches = loader(_Rows(60), num_workers=2)
    kept = [batch["second"] for batch in batches]  # far more than pieces: a view of the batch
    assert [float(row[0]) for row in kept] == list(range(60))
    assert all((row == number).all() for number, row in enumerate(kept))
    again = [float(batch["image"][1, -1]) for batch in batches]
    assert again == list(range(60)) and [float(row[-1]) for row in kept] == list(range(60))


def test_lengths_may_change() -> None:
    short = [0, 3, 4, 11]
    batches = loader(_Rows(20, short=short))
    for number, batch in enumerate(batches):
        assert batch["image"].shape[1] == (NUMBERS // 3 if number in short else NUMBERS)
        assert (batch["image"] == number).all()


def test_what_is_not_sent_is_given_back() -> None:
    memory = WorkerMemory("loader")
    for _ in range(50):
        memory.take(10)
        memory.drop()
    lists = [torch.zeros(3)]
    memory.take(10)
    assert memory.parcel(lists) is lists
    memory.take(10)
    labels = {"label": torch.zeros(2)}
    assert memory.parcel(labels) is labels  # nothing of it lies in the memory
    assert int(memory._marks.sum()) == 0 and len(memory._pieces) == 1


def test_accounts_are_closed_with_their_loader() -> None:
    gc.collect()
    batches = loader(_Rows(4))
    before = len(recycled_memory._KNOWN)
    kept = [batch["image"] for batch in batches]
    assert len(recycled_memory._KNOWN) == before
    del batches
    gc.collect()
    assert len(recycled_memory._KNOWN) == before - 1
    assert [int(image[0, 0]) for image in kept] == [0, 1, 2, 3]
