"""Saying things once: a tower would otherwise repeat itself with every batch."""

import logging


class Notices:
    """Logs a warning of each kind at most once.

    Args:
        name: Of the logger.
    """

    def __init__(self, name: str) -> None:
        self._log = logging.getLogger(name)
        self._given: set[str] = set()

    def once(self, kind: str, message: str) -> None:
        """Log the message if it is the first of its kind."""
        if kind not in self._given:
            self._given.add(kind)
            self._log.warning("%s", message)
