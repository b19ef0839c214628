"""One preparation of a data set at a time, over the processes of a machine and its file system."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import current_process
from pathlib import Path

_LOG = logging.getLogger(__name__)


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Wait until no other process works in a folder; one that is killed gives it free.

    Args:
        folder: Exists and can be written to.

    Raises:
        RuntimeError: If a process that helps a script with this work runs that script from its
            beginning, and so would wait for itself.
    """
    if getattr(current_process(), "_inheriting", False):  # as multiprocessing itself finds out
        raise RuntimeError(
            f"a script that prepares {folder} is run again by each process that helps it; put what "
            'it does under: if __name__ == "__main__":'
        )
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    with (folder / ".lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _LOG.info("another process is preparing %s: waiting until it has finished", folder)
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:  # some network file systems
            _LOG.warning(
                "%s cannot be locked (%s): see to it that it is prepared by one process at a time",
                folder,
                error.strerror,
            )
        yield
