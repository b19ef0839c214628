"""Which images could not be used while training, and were replaced by their neighbours."""

import logging

from medvlp.types import ImageBatch

_LOG = logging.getLogger(__name__)
_TOLD = 10


class ReplacedImages:
    """Counts over all loader workers; the first ones are told at once, all at the end."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.num_times = 0

    def count(self, batch: ImageBatch) -> None:
        """Add a batch."""
        for name, reason in batch.get("replaced", ()):
            self.num_times += 1
            if name not in self.names and len(self.names) < _TOLD:
                _LOG.warning("%s is replaced by the next image of its set: %s", name, reason)
            self.names.add(name)

    def report(self, run: str) -> None:
        """Warn of what was replaced in a run, and begin again at zero."""
        if self.names:
            _LOG.warning(
                "%s: %d images could not be used and were replaced by the next of their set, %d "
                "times in all; data.inspect=true finds and names them before training",
                run,
                len(self.names),
                self.num_times,
            )
        self.names, self.num_times = set(), 0
