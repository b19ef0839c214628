"""Where independent jobs run: here, in processes of this machine; other engines are other files."""

import os
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from statistics import mean
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

# A pool takes long to start, because every process imports torch: short work stays here.
_WORTH_A_POOL_SECONDS = 20.0
_RECENT = 4  # items from whose duration the rest is estimated


class PreparationError(RuntimeError):
    """Preparation had to stop; the message says what to do."""


class Engine(ABC):
    """Runs a function over items, in any order."""

    @abstractmethod
    def run(self, function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
        """Yield the results as they come.

        Args:
            function: Importable by name, so that other processes find it.
            items: Picklable.
        """


class LocalEngine(Engine):
    """Processes of this machine.

    Args:
        num_workers: None takes one per core this process may use; 0 or 1 runs in this process.
    """

    def __init__(self, num_workers: int | None = None) -> None:
        self.num_workers = num_cores() if num_workers is None else num_workers

    def run(self, function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
        """Yield the results as they come; work of some seconds is not worth other processes.

        Raises:
            PreparationError: If a process died, for want of memory as a rule.
        """
        left = deque(items)
        recent: deque[float] = deque(maxlen=_RECENT)
        while left:
            patience = len(recent) < _RECENT or mean(recent) * len(left) < _WORTH_A_POOL_SECONDS
            if self.num_workers > 1 and not patience:
                yield from self._run_pool(function, left)
                return
            started = time.monotonic()
            result = function(left.popleft())
            recent.append(time.monotonic() - started)
            yield result

    def _run_pool(
        self, function: Callable[[Item], Result], items: Collection[Item]
    ) -> Iterator[Result]:
        from concurrent.futures import ProcessPoolExecutor, as_completed
        from concurrent.futures.process import BrokenProcessPool
        from multiprocessing import get_context

        # spawned, not forked: a fork of a process whose torch has threads may hang
        pool = ProcessPoolExecutor(self.num_workers, get_context("spawn"), _single_thread)
        try:
            for future in as_completed([pool.submit(function, item) for item in items]):
                yield future.result()
        except BrokenProcessPool as error:
            raise PreparationError(
                f"one of {self.num_workers} processes died, as a rule for want of memory; what is "
                "done is kept: run the same again with fewer (data.engine.num_workers=1)"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def num_cores() -> int:
    """Count the cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _single_thread() -> None:
    import blosc2
    import torch

    torch.set_num_threads(1)
    blosc2.set_nthreads(1)
