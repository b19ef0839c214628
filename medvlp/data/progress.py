"""Bars on the terminal: what is done, at what rate, how long it will take."""

import time
from types import TracebackType

from medvlp.data.preparation import Outcome


class RateBar:
    """Shows items done, rate and time left; use it as a context.

    Args:
        title: What is being done.
        unit: What is counted.
    """

    def __init__(self, title: str, unit: str = "scans") -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        self.title, self.unit = title, unit
        self.num_done = 0
        self.seconds = 0.0
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TextColumn("elapsed"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self._task = self._progress.add_task(title, total=None, rate="")

    def __enter__(self) -> "RateBar":
        self._progress.start()
        self._started = time.monotonic()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def advance(self, total: int, count: int = 1) -> None:
        """Count one item of so many in all, or several."""
        self.num_done += count
        self.seconds = time.monotonic() - self._started
        speed = self._progress.tasks[0].speed
        self._progress.update(
            self._task,
            total=total,
            completed=self.num_done,
            rate=f"{speed:.1f} {self.unit}/s" if speed else "",
        )


class ScanProgress(RateBar):
    """Counts what became of each scan too; pass the object as `on_scan`."""

    def __init__(self, title: str = "preparing scans") -> None:
        super().__init__(title)
        self.num_reused = self.num_refused = 0

    def __enter__(self) -> "ScanProgress":
        super().__enter__()
        return self

    @property
    def num_written(self) -> int:
        """How many scans were prepared now."""
        return self.num_done - self.num_reused - self.num_refused

    def __call__(self, outcome: Outcome, total: int) -> None:
        """Count one scan."""
        self.num_reused += outcome.reused
        self.num_refused += outcome.facts is None
        self.advance(total)
