"""One front for all file formats: `read(path) -> Scan`.

A module of this package that decorates a function with `@reader(".suffix")` is found by itself:
a new format is a new file. Such modules import their libraries inside the function.
"""

import importlib
import pkgutil
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

from medvlp.data.scan import Scan

Reader = Callable[[Path], Scan]
SeriesReader = Callable[[Path, Sequence[Path]], Scan]

_READERS: dict[str, Reader] = {}
_SERIES_READERS: list[SeriesReader] = []


class ReadError(ValueError):
    """A file that is damaged, or that says something about itself that cannot be true."""


def reader(*suffixes: str) -> Callable[[Reader], Reader]:
    """Register the decorated function for files whose name ends in one of `suffixes`."""

    def register(function: Reader) -> Reader:
        for suffix in suffixes:
            _READERS[suffix.lower()] = function
        return function

    return register


def series_reader(function: SeriesReader) -> SeriesReader:
    """Register the decorated function for folders, and for several files that are one scan."""
    _SERIES_READERS.append(function)
    return function


def read(path: Path, files: Sequence[Path] = ()) -> Scan:
    """Read one volume, whatever its format.

    Args:
        path: A file, or a folder that holds one scan as a series of files.
        files: The files of the series, where the folder holds others too.

    Raises:
        FileNotFoundError: If there is no such file.
        ReadError: If no reader knows the suffix, or the file is damaged; the message names it.
    """
    _load_readers()
    if not path.exists():
        raise FileNotFoundError(f"{path} is not there")
    if files or path.is_dir():
        if not _SERIES_READERS:
            raise ReadError(f"{path} is a folder: no reader for a series of files is installed")
        return _SERIES_READERS[0](path, files)
    name = path.name.lower()
    for suffix in sorted(_READERS, key=len, reverse=True):
        if name.endswith(suffix):
            return _READERS[suffix](path)
    raise ReadError(
        f"{path}: no reader for this kind of file; known: {', '.join(known_suffixes())}"
    )


def known_suffixes() -> list[str]:
    """List the endings of file names that can be read."""
    _load_readers()
    return sorted(_READERS)


@cache
def _load_readers() -> None:
    package = importlib.import_module("medvlp.data.readers")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
