"""Many small records in two arrays, so that loader workers share them and memory stays flat."""

import json
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np


class PackedRows:
    """A list of records in JSON types; each is decoded when it is asked for.

    A list of dictionaries would be copied page by page into every forked worker, because reading
    an object changes its reference count.

    >>> PackedRows([{"a": 1}, {"b": [2]}])[1]
    {'b': [2]}
    """

    def __init__(self, rows: Iterable[Any]) -> None:
        lines = [json.dumps(row, ensure_ascii=False).encode() for row in rows]
        self._ends = np.cumsum([len(line) for line in lines], dtype=np.int64)
        self._bytes = np.frombuffer(b"".join(lines), dtype=np.uint8)

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index: int) -> Any:
        if not 0 <= index < len(self):
            raise IndexError(f"row {index} of {len(self)}")
        start = 0 if index == 0 else int(self._ends[index - 1])
        return json.loads(self._bytes[start : int(self._ends[index])].tobytes())

    def __iter__(self) -> Iterator[Any]:
        return (self[index] for index in range(len(self)))
