"""Jobs on Dask workers: processes of this machine, a cluster by its address, or Slurm."""

import signal
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import cache
from queue import Empty, Queue
from typing import Any

from medvlp.data.engine import (
    Engine,
    Item,
    PreparationError,
    Result,
    Told,
    num_cores,
    received,
    run_remotely,
    single_thread,
)

_AHEAD = 2  # items per worker that are handed out before they are needed
_POLL_SECONDS = 1.0
_NAMED_CHARACTERS = 200


class DaskEngine(Engine):
    """Dask workers of one thread each; a worker that is lost is replaced and its item run again.

    Args:
        num_workers: Processes to start, here or under Slurm; None takes one per core of this
            machine. A scheduler given by its address has its own.
        scheduler: Address of a running scheduler, "tcp://host:8786"; its workers must have medvlp
            installed and see the same files.
        slurm: Options of `dask_jobqueue.SLURMCluster`: queue, account, cores, memory, walltime,
            job_script_prologue and so on. One process per core unless `processes` says otherwise.
        patience_s: How long to go on without any worker; under Slurm that is the time in the queue.
    """

    def __init__(
        self,
        *,
        num_workers: int | None = None,
        scheduler: str | None = None,
        slurm: Mapping[str, Any] | None = None,
        patience_s: float = 600.0,
    ) -> None:
        if scheduler is not None and slurm is not None:
            raise ValueError("scheduler and slurm are both given; a cluster is one or the other")
        if num_workers is not None and num_workers < 1:
            raise ValueError(f"num_workers is {num_workers}, expected 1 or more, or null")
        self.num_workers = num_cores() if num_workers is None else num_workers
        self.scheduler, self.slurm, self.patience_s = scheduler, slurm, patience_s

    def run(self, function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
        """Yield the results as they come.

        Raises:
            ImportError: If Dask is not installed.
            PreparationError: If the scheduler or all workers are gone, or an item kills workers.
        """
        if not items:
            return
        distributed = _distributed()
        with ExitStack() as stack:
            cluster = self.scheduler or stack.enter_context(self._cluster())
            try:
                client = distributed.Client(cluster, set_as_default=False)
            except (OSError, TimeoutError) as error:
                raise PreparationError(
                    f"no Dask scheduler answers at {self.scheduler}; start one with `dask "
                    "scheduler`, or leave engine.scheduler out to use this machine"
                ) from error
            stack.enter_context(client)
            if self.scheduler is None and self.slurm is None:
                client.run(_ignore_interrupts)
            yield from self._stream(client, function, deque(items))

    def _cluster(self) -> Any:
        import logging

        if self.slurm is not None:
            return _slurm_cluster(self.slurm, self.num_workers)
        return _distributed().LocalCluster(
            n_workers=self.num_workers,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address=None,
            worker_dashboard_address=None,
            memory_limit=0,  # one large volume is not a leak
            scheduler_kwargs={"allowed_failures": 1},
            silence_logs=logging.CRITICAL,  # what matters is told as an error of this run
        )

    def _stream(
        self, client: Any, function: Callable[[Item], Result], items: deque[Item]
    ) -> Iterator[Result]:
        finished: Queue[Any] = Queue()
        waiting: dict[Any, Item] = {}
        workers = _Workers(client, self.patience_s)
        while items or waiting:
            while items and len(waiting) < _AHEAD * max(1, workers.count()):
                item = items.popleft()
                future = client.submit(_run_on_worker, function, item, pure=False)
                waiting[future] = item
                future.add_done_callback(finished.put)
            try:
                future = finished.get(timeout=_POLL_SECONDS)
            except Empty:
                workers.require_some()
                continue
            yield received(_result(future, waiting.pop(future)))


class _Workers:
    """Counts the workers, not more often than need be, and loses patience without any."""

    def __init__(self, client: Any, patience_s: float) -> None:
        self.client, self.patience_s = client, patience_s
        self._known, self._asked = 0, float("-inf")
        self._last_seen = time.monotonic()

    def count(self) -> int:
        now = time.monotonic()
        if now - self._asked > _POLL_SECONDS:
            try:
                self._known = len(self.client.nthreads())
            except (OSError, TimeoutError) as error:
                raise PreparationError(_GONE) from error
            self._asked = now
            if self._known:
                self._last_seen = now
        return self._known

    def require_some(self) -> None:
        if not self.count() and time.monotonic() - self._last_seen > self.patience_s:
            raise PreparationError(
                f"the Dask cluster has had no worker for {self.patience_s:g} s; what is done is "
                "kept: look at the workers' logs and run the same again (engine.patience_s "
                "is how long to wait, for a queue too)"
            )


_GONE = "the Dask scheduler went away; what is done is kept: run the same again"


def _ignore_interrupts() -> None:
    """Leave Ctrl-C, which the terminal sends to workers too, to the process that stops them."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _result(future: Any, item: Any) -> Any:
    from distributed.client import FutureCancelledError
    from distributed.scheduler import KilledWorker

    try:
        return future.result()
    except KilledWorker as error:
        name = str(item)[:_NAMED_CHARACTERS]
        raise PreparationError(
            f"workers died each time they were given {name}, as a rule for want of memory; what "
            "is done is kept: run the same again with fewer workers (engine.num_workers=1), "
            "or leave that scan out"
        ) from error
    except FutureCancelledError as error:
        raise PreparationError(_GONE) from error


def _run_on_worker(function: Callable[[Item], Result], item: Item) -> Result | Told:
    _single_thread_once()
    return run_remotely(function, item)


@cache
def _single_thread_once() -> None:
    single_thread()


def _slurm_cluster(options: Mapping[str, Any], num_workers: int) -> Any:
    try:
        from dask_jobqueue.slurm import SLURMCluster
    except ImportError as error:
        raise ImportError("Slurm needs dask-jobqueue: pip install 'medvlp[scale]'") from error
    given = {"cores": 1, "memory": "8GB", **options}
    given.setdefault("processes", given["cores"])
    given.setdefault("worker_extra_args", ["--no-dashboard"])
    given["scheduler_options"] = {"dashboard": False, **given.get("scheduler_options", {})}
    cluster = SLURMCluster(**given)
    cluster.scale(num_workers)
    return cluster


def _distributed() -> Any:
    try:
        import distributed
    except ImportError as error:
        raise ImportError("engine=dask needs Dask: pip install 'medvlp[scale]'") from error
    return distributed
