"""Where independent jobs run: here, in processes of this machine; other engines are other files."""

import os
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any, TypeVar

from medvlp.user_errors import user_message

Item = TypeVar("Item")
Result = TypeVar("Result")

# A pool takes long to start, because every process imports torch: short work stays here.
_WORTH_A_POOL_SECONDS = 20.0
_RECENT = 4  # items from whose duration the rest is estimated
_AHEAD = 2  # items per process that are handed out before they are needed


class PreparationError(RuntimeError):
    """Preparation had to stop; the message says what to do."""


class Engine(ABC):
    """Runs a function over items, in any order."""

    @abstractmethod
    def run(self, function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
        """Yield the results as they come.

        Args:
            function: Importable by name, so that other processes find it.
            items: Picklable; `str(item)` names one in messages.

        Raises:
            PreparationError: If a process is lost, or an error of the user's came from another
                process; its message is told as it is.
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

    def _run_pool(self, function: Callable[[Item], Result], items: deque[Item]) -> Iterator[Result]:
        from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
        from concurrent.futures.process import BrokenProcessPool
        from multiprocessing import get_context

        # spawned, not forked: a fork of a process whose torch has threads may hang
        pool = ProcessPoolExecutor(self.num_workers, get_context("spawn"), _start_process)
        waiting: set[Future[Result | Told]] = set()
        try:
            while items or waiting:
                while items and len(waiting) < _AHEAD * self.num_workers:
                    waiting.add(pool.submit(run_remotely, function, items.popleft()))
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                for future in done:
                    yield received(future.result())
        except BrokenProcessPool as error:
            raise PreparationError(
                f"one of {self.num_workers} processes died, for want of memory if it said nothing; "
                "what is done is kept: run the same again with fewer (engine.num_workers=1)"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


@dataclass(frozen=True)
class Told:
    """What the user is told of an error in another process."""

    message: str


def run_remotely(function: Callable[[Item], Result], item: Item) -> Result | Told:
    """Run a job in another process; an error of the user's comes back as its message.

    Users' errors are known by their traceback, which does not travel.
    """
    try:
        return function(item)
    except Exception as error:
        message = user_message(error)
        if message is None:
            raise
        return Told(message)


def received(result: Result | Told) -> Result:
    """Hand on what `run_remotely` returned.

    Raises:
        PreparationError: With the message of an error of the user's.
    """
    if isinstance(result, Told):
        raise PreparationError(result.message)
    return result


def num_cores() -> int:
    """Count the cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def single_thread() -> None:
    """Let the libraries of this process use one thread: the processes are the parallelism."""
    import blosc2
    import torch

    torch.set_num_threads(1)
    blosc2.set_nthreads(1)


def _start_process() -> None:
    import signal
    import threading

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent: it stops the pool
    threading.Thread(target=_die_with_parent, daemon=True).start()
    single_thread()


def _die_with_parent() -> Any:
    """End this process when its parent was killed: an orphan would go on writing for ever."""
    from multiprocessing import parent_process

    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
