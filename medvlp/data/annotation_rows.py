"""Rows of annotation files: CSV by position or name, JSON, JSON lines, lists written as text."""

import ast
import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from medvlp.data.captioned_images import Record, RowError, require_files
from medvlp.data.tables import column_position

_MAX_FIELD_CHARACTERS = 10_000_000
_MAX_LIST_CHARACTERS = 1_000_000
_UTF16 = (b"\xff\xfe", b"\xfe\xff")

# What pandas.read_csv takes for a missing value, which the published scripts rely on.
# fmt: off
_MISSING = frozenset((
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN",
    "<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null",
))
# fmt: on


def csv_records(path: Path, columns: Sequence[str | int]) -> Iterator[Record]:
    """Yield the cells of the wanted columns of every row; None where nothing is written.

    Args:
        path: UTF-8, with or without a byte order mark.
        columns: By name, or by position from 0.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is empty, lacks a column or is not a CSV table.
    """
    require_files([path])
    csv.field_size_limit(_MAX_FIELD_CHARACTERS)
    with _open(path) as file:
        lines = _Lines(file)
        reader = csv.reader(lines)
        try:
            header = next(reader, [])
            places = _positions(path, [name.strip() for name in header], columns)
            lines.num_seen = 0
            for cells in reader:
                if "".join(cells).strip() or len(cells) > 1:  # else: a blank line
                    place = f"{path.name}, line {reader.line_num}"
                    yield place, _cells(cells, places, len(header), lines)
                lines.num_seen = 0
        except csv.Error as error:
            raise ValueError(
                f"{path}, line {reader.line_num} is not readable CSV ({error}); is a double quote "
                "never closed?"
            ) from error


def json_lines(path: Path) -> Iterator[Record]:
    """Yield the value of every line that is not blank.

    Raises:
        FileNotFoundError: If there is no such file.
    """
    require_files([path])
    with _open(path) as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield f"{path.name}, line {number}", _parsed(line)


def read_json(path: Path) -> Any:
    """Read a whole JSON file; bare NaN is allowed, as Python writes it.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not readable JSON.
    """
    require_files([path])
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not readable JSON: {error}") from error


def read_list(cell: str | None, what: str) -> list[str]:
    """Read a list of texts that is written as Python text, without running anything.

    Raises:
        RowError: If it is no such list, or longer than a million characters.

    >>> read_list("['no nodule', 'clear lungs']", "captions")
    ['no nodule', 'clear lungs']
    """
    if cell is None:
        raise RowError(f"no {what}")
    if len(cell) > _MAX_LIST_CHARACTERS:
        raise RowError(f"the {what} are too long to be a list", f"{len(cell):,} characters")
    reason = f"the {what} are not the text of a list of texts, such as ['one', 'two']"
    try:
        values = ast.literal_eval(cell.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        raise RowError(reason, repr(cell[:80])) from None
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise RowError(reason, repr(cell[:80]))
    return values


class _Lines:
    """The lines of a file, counted since `num_seen` was set to 0.

    The reader of a table asks for a line behind the last only while a quoted cell is open.
    """

    def __init__(self, file: TextIO) -> None:
        self.file, self.num_seen, self.ended = file, 0, False

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        line = self.file.readline()
        if not line:
            self.ended = True
            raise StopIteration
        self.num_seen += 1
        return line


def _open(path: Path) -> TextIO:
    with path.open("rb") as file:
        if file.read(2) in _UTF16:
            raise ValueError(f"{path} is UTF-16; save it as UTF-8")
    # bytes that are not UTF-8 become lone surrogates: only the rows that have them are refused
    return path.open(encoding="utf-8-sig", errors="surrogateescape", newline="")


def _positions(path: Path, header: list[str], columns: Sequence[str | int]) -> list[int]:
    if not header:
        raise ValueError(f"{path} is empty; a table with a header is expected")
    return [column_position(path, header, column) for column in columns]


def _cells(
    cells: list[str], places: list[int], width: int, lines: _Lines
) -> list[str | None] | RowError:
    if lines.ended:
        detail = f"it swallows {lines.num_seen - 1:,} lines up to the end of the file"
        return RowError("a double quote is never closed", detail)
    if len(cells) > width:
        advice = "a text with a comma must stand in double quotes"
        return RowError("more cells than the header", f"{len(cells)} for {width}; {advice}")
    wanted = [cells[place] if place < len(cells) else "" for place in places]
    return [None if cell in _MISSING else cell for cell in wanted]


def _parsed(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        return RowError("the line is not readable JSON", str(error))
