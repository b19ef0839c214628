"""Tables and JSON files of the twins, written all at once or not at all."""

import csv
import io
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from medvlp.phantom.nifti_file import write_bytes

Row = Mapping[str, str | int | float]


def write_table(
    path: Path, columns: Iterable[str], rows: Iterable[Row], *, encoding: str = "utf-8"
) -> None:
    """Write a CSV file and its folder; a cell that a row does not name stays empty.

    Args:
        path: Where to.
        columns: In their order.
        rows: A row must not name other columns.
        encoding: "utf-8-sig" puts a byte order mark in front, as spreadsheets do.
    """
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(columns), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, text.getvalue().encode(encoding))


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file and its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(content, indent=1, ensure_ascii=False)
    write_bytes(path, f"{text}\n".encode())
