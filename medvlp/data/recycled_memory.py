"""Shared memory that a loader's worker fills again once the main process has let go of it.

Where memory is handed out in pages of 4 KiB, getting 25 MiB costs as much as decompressing a
volume into them. A worker therefore keeps what it allocated. The main process maps each piece once
and marks it as free when the last tensor over it is gone, whoever held it and for how long; a
worker that finds no free piece allocates another way, so that nothing ever waits.
"""

import os
import uuid
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, UntypedStorage

_MAX_PIECES = 16
_FREE, _TAKEN = 0, 1


@dataclass
class _Known:
    """What the main process has mapped of one worker."""

    marks: Tensor
    pieces: dict[int, UntypedStorage] = field(default_factory=dict)


_KNOWN: dict[str, dict[str, _Known]] = {}  # of the main process: loader, worker


class _Place(NamedTuple):
    """Where in which piece a tensor lies."""

    piece: int
    dtype: torch.dtype
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


class WorkerMemory:
    """The memory of one worker.

    Args:
        loader: As `register` named it.
    """

    def __init__(self, loader: str) -> None:
        self.loader, self.name = loader, uuid.uuid4().hex
        self._marks = torch.zeros(_MAX_PIECES, dtype=torch.uint8).share_memory_()
        self._pieces: list[UntypedStorage] = []
        self._unsent = set[int]()  # allocated since: the main process has not mapped them
        self._taken = set[int]()  # for the batch in hand

    def take(self, num_bytes: int) -> UntypedStorage:
        """Return memory of at least that size, shared with the main process."""
        free = [n for n, mark in enumerate(self._marks[: len(self._pieces)]) if mark == _FREE]
        fitting = [n for n in free if self._pieces[n].nbytes() >= num_bytes]
        if fitting:
            number = min(fitting, key=lambda n: self._pieces[n].nbytes())
        elif free or len(self._pieces) < _MAX_PIECES:
            number = self._renew(free, num_bytes)
        else:
            return UntypedStorage._new_shared(num_bytes)
        self._marks[number] = _TAKEN
        self._taken.add(number)
        return self._pieces[number]

    def _renew(self, free: list[int], num_bytes: int) -> int:
        """Allocate a piece, in place of a free one that is too small if there is any."""
        piece = UntypedStorage._new_shared(num_bytes)
        number = free[0] if free else len(self._pieces)
        self._pieces[number : number + 1] = [piece]
        self._unsent.add(number)
        return number

    def parcel(self, batch: Any) -> Any:
        """Make a batch ready to be sent: what lies in this memory goes by its place.

        Args:
            batch: Whose values may lie there, if it is a mapping; anything else is sent as it is.
        """
        if not isinstance(batch, Mapping):
            self.drop()
            return batch
        numbers = {self._pieces[number].data_ptr(): number for number in self._taken}
        places = dict[str, _Place]()
        for name, value in batch.items():
            if isinstance(value, Tensor):
                number = numbers.get(value.untyped_storage().data_ptr())
                if number is not None:
                    shape, stride = tuple(value.shape), value.stride()
                    offset = int(value.storage_offset())
                    places[name] = _Place(number, value.dtype, offset, shape, stride)
        sent = {place.piece for place in places.values()}
        self._give_back(self._taken - sent)
        self._taken.clear()
        if not places:
            return batch
        fresh = {number: self._pieces[number] for number in sent & self._unsent}
        self._unsent -= sent
        return Parcel(self.loader, self.name, self._marks, fresh, places, batch)

    def drop(self) -> None:
        """Give back what was taken for a batch that failed."""
        self._give_back(self._taken)
        self._taken.clear()

    def _give_back(self, numbers: set[int]) -> None:
        for number in numbers:
            self._marks[number] = _FREE


@dataclass(frozen=True)
class Parcel:
    """A batch on its way; the main process gets the batch itself."""

    loader: str
    worker: str
    marks: Tensor
    fresh: dict[int, UntypedStorage]
    places: dict[str, _Place]
    batch: Mapping[str, Any]

    def __reduce__(self) -> tuple[Any, ...]:
        """Send everything but the tensors that lie in the worker's memory."""
        rest = {name: value for name, value in self.batch.items() if name not in self.places}
        marks = self.marks if self.fresh else None
        order = tuple(self.batch)
        return _unpack, (self.loader, self.worker, marks, self.fresh, self.places, rest, order)


def register(owner: object) -> str:
    """Open the account of a loader in the main process; it is closed when the owner is gone."""
    loader = uuid.uuid4().hex
    _KNOWN[loader] = {}
    weakref.finalize(owner, _KNOWN.pop, loader, None)
    return loader


def _unpack(
    loader: str,
    worker: str,
    marks: Tensor | None,
    fresh: dict[int, UntypedStorage],
    places: dict[str, _Place],
    rest: dict[str, Any],
    order: tuple[str, ...],
) -> dict[str, Any]:
    """Rebuild a batch in the main process."""
    workers = _KNOWN[loader]
    if worker not in workers:
        assert marks is not None  # the first parcel of a worker holds fresh pieces only
        workers[worker] = _Known(marks)
    known = workers[worker]
    known.pieces.update(fresh)
    used = {place.piece for place in places.values()}
    storages = {number: _leased(known, number) for number in used}
    for name, place in places.items():
        tensor: Any = torch.empty(0, dtype=place.dtype)
        rest[name] = tensor.set_(storages[place.piece], place.offset, place.shape, place.stride)
    return {name: rest[name] for name in order}


def _leased(known: _Known, number: int) -> UntypedStorage:
    """Wrap a piece so that it is marked as free when its last tensor is gone."""
    return torch.from_numpy(np.asarray(_Lease(known, number))).untyped_storage()


class _Lease:
    """Memory as NumPy takes it over; lives as long as something looks at it."""

    def __init__(self, known: _Known, number: int) -> None:
        self.marks, self.piece = known.marks.numpy(), known.pieces[number]
        self.number, self.process = number, os.getpid()
        self.__array_interface__ = {
            "data": (self.piece.data_ptr(), False),
            "shape": (self.piece.nbytes(),),
            "typestr": "|u1",
            "version": 3,
        }

    def __del__(self) -> None:
        if os.getpid() == self.process:  # a forked worker holds a copy that means nothing
            self.marks[self.number] = _FREE
