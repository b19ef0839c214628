"""A bar on the terminal for the scans that are being prepared."""

import time
from types import TracebackType

from medvlp.data.preparation import Outcome


class ScanProgress:
    """Shows scans done, rate and time left; the context hands out the `on_scan` callback."""

    def __init__(self, title: str = "preparing scans") -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        self.title = title
        self.num_reused = self.num_refused = self.num_done = 0
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

    def __enter__(self) -> "ScanProgress":
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

    @property
    def num_written(self) -> int:
        """How many scans were prepared now."""
        return self.num_done - self.num_reused - self.num_refused

    def __call__(self, outcome: Outcome, total: int) -> None:
        """Count one scan; pass this object as `on_scan`."""
        self.num_done += 1
        self.seconds = time.monotonic() - self._started
        self.num_reused += outcome.reused
        self.num_refused += outcome.facts is None
        speed = self._progress.tasks[0].speed
        self._progress.update(
            self._task,
            total=total,
            completed=self.num_done,
            rate=f"{speed:.1f} scans/s" if speed else "",
        )
