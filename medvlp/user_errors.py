"""Which errors are the user's: told in one line by every verb, where all others keep a traceback.

An error is the user's if its message was written for the user: a ValueError, OSError, ImportError
or PreparationError that medvlp raises itself, an OSError of the machine (no permission, disk full),
or a configuration that Hydra or Lightning refuses. Whatever else fails is a mistake in the code.
"""

import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_OURS = ("ValueError", "ImportError", "PreparationError")  # by name: nothing heavy is imported
_REFUSALS = ("HydraException", "OmegaConfBaseException", "MisconfigurationException")
_DEBUG = ("MEDVLP_DEBUG", "HYDRA_FULL_ERROR")


@contextmanager
def one_line_errors() -> Iterator[None]:
    """End the process with `medvlp: <message>` and code 1 if an error is the user's.

    With MEDVLP_DEBUG=1 or HYDRA_FULL_ERROR=1 every error keeps its traceback.
    """
    try:
        yield
    except Exception as error:
        message = user_message(error)
        if any(os.environ.get(name) == "1" for name in _DEBUG):
            os.environ["HYDRA_FULL_ERROR"] = "1"
            raise
        if message is None:
            raise
        sys.exit(f"medvlp: {message}")


def user_message(error: BaseException) -> str | None:
    """Return what the user is told of an error; None for a mistake in the code."""
    kinds = {kind.__name__ for kind in type(error).__mro__}
    if "InstantiationException" in kinds:  # Hydra's wrapper; the place is the tree's key
        if error.__cause__ is None:
            return _first_paragraph(str(error))
        inner = user_message(error.__cause__)
        return None if inner is None else inner + _place(str(error))
    if "OSError" in kinds or kinds.intersection(_REFUSALS):
        return _first_paragraph(str(error)) or repr(error)
    if kinds.intersection(_OURS) and _raised_by_medvlp(error):
        return str(error)
    return None


def _raised_by_medvlp(error: BaseException) -> bool:
    """Tell whether a `raise` of this package made the error, not a call that went wrong in it."""
    frames = traceback.extract_tb(error.__traceback__)
    if not frames or not (frames[-1].line or "").startswith("raise "):
        return False
    return Path(frames[-1].filename).resolve().is_relative_to(_PACKAGE)


def _first_paragraph(message: str) -> str:
    return message.split("\nSet the environment variable")[0].strip()


def _place(message: str) -> str:
    """Return the key that Hydra names in the last line of its wrapper."""
    _, found, key = message.partition("full_key: ")
    return f" (at {key.strip()} of the configuration)" if found else ""
