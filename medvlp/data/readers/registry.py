"""One front for all file formats: `read(path) -> Scan`.

A module of this package that decorates a function with `@reader(".suffix")` is found by itself:
a new format is a new file. Such modules import their libraries inside the function.
"""

import importlib
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, TypeVar

from medvlp.data.scan import Scan

Irregular = Literal["refuse", "correct"]
"""What to do with slices that are not an even pile: shifted against each other, as after a gantry
tilt, or at uneven distances, as in a head CT that is thin at the skull base and thick above."""

Reader = Callable[[Path], Scan]
SeriesReader = Callable[..., Scan]
"""Called with a folder, with the files in it that are the series (none: all), and `irregular`."""


@dataclass(frozen=True)
class _SeriesFormat:
    read: SeriesReader
    suffixes: tuple[str, ...]
    magic_offset: int
    magic: bytes

    def knows(self, path: Path) -> bool:
        if path.name.lower().endswith(self.suffixes):
            return True
        with path.open("rb") as file:
            file.seek(self.magic_offset)
            return file.read(len(self.magic)) == self.magic


_READERS: dict[str, Reader] = {}
_SERIES_FORMATS: list[_SeriesFormat] = []
_Series = TypeVar("_Series", bound=SeriesReader)


class ReadError(ValueError):
    """A file that is damaged, or that says something about itself that cannot be true."""


def reader(*suffixes: str) -> Callable[[Reader], Reader]:
    """Register the decorated function for files whose name ends in one of `suffixes`."""

    def register(function: Reader) -> Reader:
        for suffix in suffixes:
            _READERS[suffix.lower()] = function
        return function

    return register


def series_reader(*suffixes: str, magic_offset: int, magic: bytes) -> Callable[[_Series], _Series]:
    """Register the decorated function for folders, and for files that are a scan or parts of one.

    Args:
        suffixes: Endings of the names of such files; many have none.
        magic_offset: Where `magic` stands.
        magic: By which such a file is known, whatever its name.
    """

    def register(function: _Series) -> _Series:
        _SERIES_FORMATS.append(_SeriesFormat(function, suffixes, magic_offset, magic))
        return function

    return register


def read(path: Path, files: Sequence[Path] = (), *, irregular: Irregular = "refuse") -> Scan:
    """Read one volume, whatever its format.

    Args:
        path: A file, or a folder that holds one scan as a series of files.
        files: The files of the series, where the folder holds others too.
        irregular: "refuse" a series whose slices are shifted or unevenly spaced, or "correct" it.

    Raises:
        FileNotFoundError: If there is no such file.
        ReadError: If no reader knows the suffix, or the file is damaged; the message names it.
    """
    _load_readers()
    if not path.exists():
        raise FileNotFoundError(f"{path} is not there")
    name = path.name.lower()
    if files or path.is_dir():
        return _SERIES_FORMATS[0].read(path, files, irregular=irregular)
    for suffix in sorted(_READERS, key=len, reverse=True):
        if name.endswith(suffix):
            return _READERS[suffix](path)
    for series in _SERIES_FORMATS:
        if series.knows(path):
            return series.read(path, (path,), irregular=irregular)
    raise ReadError(
        f"{path}: no reader for this kind of file; known: {', '.join(known_suffixes())}"
    )


def known_suffixes() -> list[str]:
    """List the endings of file names that can be read."""
    _load_readers()
    return sorted({*_READERS, *(suffix for known in _SERIES_FORMATS for suffix in known.suffixes)})


@cache
def _load_readers() -> None:
    package = importlib.import_module("medvlp.data.readers")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
