"""Peak memory of one call, in a fresh process."""

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch

from medvlp.bench.record import peak_memory_mib


def peak_bytes(work: Callable[..., object], warm_up: tuple[Any, ...], *arguments: Any) -> float:
    """Return by how much a call raises the largest resident set of a process.

    Args:
        work: Importable by name.
        warm_up: Arguments of a small call before, which imports what is imported on first use.
        arguments: Of the call.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(_measure, work, warm_up, arguments).result()


def _measure(
    work: Callable[..., object], warm_up: tuple[Any, ...], arguments: tuple[Any, ...]
) -> float:
    torch.set_num_threads(1)
    work(*warm_up)
    before = _resident_mib()
    result = work(*arguments)  # noqa: F841 - held, as its user would
    return (peak_memory_mib() - before) * 2**20


def _resident_mib() -> float:
    status = Path("/proc/self/status")
    if not status.is_file():
        return peak_memory_mib()
    line = next(x for x in status.read_text().splitlines() if x.startswith("VmRSS"))
    return int(line.split()[1]) / 1024
