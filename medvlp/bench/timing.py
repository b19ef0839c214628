"""Timing of alternatives in turn, so that a busy machine slows all of them alike."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median

import torch

Work = Callable[[], object]


@dataclass(frozen=True)
class Timing:
    """Median seconds of one call.

    Attributes:
        wall: By the clock.
        cpu: Of all threads of this process; on a GPU the host's share.
        repeats: Calls that were measured.
    """

    wall: float
    cpu: float
    repeats: int


def interleaved(works: Mapping[str, Work], repeats: int, device: torch.device) -> dict[str, Timing]:
    """Time each piece of work once per round, after one round that does not count."""
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in works}
    for round_number in range(repeats + 1):
        for name, work in works.items():
            pair = _once(work, device)
            if round_number:
                seconds[name].append(pair)
    return {
        name: Timing(median(w for w, _ in pairs), median(c for _, c in pairs), len(pairs))
        for name, pairs in seconds.items()
    }


def _once(work: Work, device: torch.device) -> tuple[float, float]:
    synchronise(device)
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    synchronise(device)
    return time.perf_counter() - wall, time.process_time() - cpu


def synchronise(device: torch.device) -> None:
    """Wait for the device; nothing to do on the CPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
