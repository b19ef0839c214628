"""CSV tables from others: read as strings, checked before use."""

import csv
import difflib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

_EMPTY = {"", "nan", "none", "null", "n/a", "na"}
_MAX_FIELD_CHARACTERS = 10_000_000


def read_table(
    path: Path, required: Sequence[str], *, broken: list[str] | None = None
) -> list[dict[str, str]]:
    """Read a CSV file into one dictionary of strings per row.

    Args:
        path: UTF-8, with or without a byte order mark.
        required: Columns that must be there.
        broken: Gets a message for each row with too many or too few cells, which is then left
            out; without it the first such row is an error.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is empty, has no rows, repeats a column, lacks a required column
            (the nearest existing name is told), or is not UTF-8.
    """
    rows = list(stream_table(path, required, broken=broken))
    if not rows and not broken:
        raise ValueError(f"{path} has a header but no rows; check the download")
    return rows


def stream_table(
    path: Path, required: Sequence[str], *, broken: list[str] | None = None
) -> Iterator[dict[str, str]]:
    """Read a CSV file as `read_table` does, one row at a time: for tables of many columns.

    A file without rows yields none.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there; columns expected: {', '.join(required)}")
    csv.field_size_limit(_MAX_FIELD_CHARACTERS)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            columns = [str(name).strip() for name in reader.fieldnames or []]
            reader.fieldnames = columns
            _check_columns(path, columns, required)
            for raw in reader:
                if row := _clean(path, raw, reader.line_num, broken):
                    yield row
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is not a readable UTF-8 CSV table: {error}") from error


def is_empty(text: str | None) -> bool:
    """Tell whether a cell holds nothing, also in the ways that tables write nothing.

    >>> is_empty(" NaN "), is_empty(None), is_empty("No nodule.")
    (True, True, False)
    """
    return text is None or text.strip().lower() in _EMPTY


def nearest(name: str, candidates: Iterable[str]) -> str:
    """Advise the candidate that is spelt most like `name`.

    >>> nearest("Cardiomegali", ["Atelectasis", "Cardiomegaly"])
    "; did you mean 'Cardiomegaly'?"
    """
    lowered = {candidate.lower(): candidate for candidate in candidates}
    matches = difflib.get_close_matches(name.lower(), lowered, n=1, cutoff=0.5)
    return f"; did you mean {lowered[matches[0]]!r}?" if matches else ""


def column_position(path: Path, header: Sequence[str], column: int | str) -> int:
    """Find a column by its name, or check its position from 0.

    Raises:
        ValueError: If there is no such column.
    """
    if isinstance(column, int):
        if column >= len(header):
            raise ValueError(
                f"{path} has {len(header)} columns ({', '.join(header)}), expected at least "
                f"{column + 1}"
            )
        return column
    if column not in header:
        raise ValueError(
            f"{path} has no column {column!r}{nearest(column, header)}; columns found: "
            f"{', '.join(header)}"
        )
    return header.index(column)


def _check_columns(path: Path, columns: list[str], required: Sequence[str]) -> None:
    if not columns:
        raise ValueError(f"{path} is empty; columns expected: {', '.join(required)}")
    repeated = sorted(name for name, count in Counter(columns).items() if count > 1)
    if repeated:
        raise ValueError(f"{path} has the column {repeated[0]!r} more than once")
    for name in required:
        column_position(path, columns, name)


def _clean(
    path: Path, row: dict[str | None, str | list[str] | None], line: int, broken: list[str] | None
) -> dict[str, str]:
    """Return a row of strings, or an empty one that was added to `broken`."""
    if None not in row and None not in row.values():
        return {str(name): str(value) for name, value in row.items()}
    problem = f"line {line}: the row has more or fewer cells than the header"
    if broken is None:
        raise ValueError(
            f"{path}, {problem}; a text with a comma or a line break must stand in double quotes"
        )
    broken.append(f"{path.name}, {problem}")
    return {}
