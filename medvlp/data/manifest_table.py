"""The columns of studies.parquet: real ones, for pandas and its like; and rows read back fast."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Row = dict[str, Any]

LABEL_PREFIX = "label:"  # a column for each label, apart from the other names
_SCAN_COLUMNS = ("shape", "raw_shape", "raw_spacing_mm", "raw_orientation", "modality")


class StudyTable:
    """The studies of a manifest, column by column, in memory that forked workers share.

    A row is made of Python objects only when it is asked for, and forgotten by its reader: the
    columns themselves are Arrow's, outside of Python's reference counts.

    Args:
        path: Of the Parquet file.
        label_names: Their columns are kept as one array.
    """

    def __init__(self, path: Path, label_names: Sequence[str]) -> None:
        import pyarrow.parquet

        # one thread: Arrow's pool of threads would not survive the fork of loader workers
        table = pyarrow.parquet.read_table(path, use_threads=False, memory_map=False)
        self.num_rows: int = table.num_rows
        self._label_names = tuple(label_names)
        labels = [table.column(LABEL_PREFIX + name).to_numpy() for name in self._label_names]
        self._labels = np.stack(labels, axis=1) if labels else np.empty((self.num_rows, 0), np.int8)
        names = [name for name in table.column_names if not name.startswith(LABEL_PREFIX)]
        self._columns = {name: table.column(name) for name in names}

    def row(self, index: int) -> Row:
        """Make one row, in JSON types."""
        row = {name: column[index].as_py() for name, column in self._columns.items()}
        row["texts"], row["metadata"] = dict(row["texts"]), dict(row["metadata"])
        row["labels"] = dict(zip(self._label_names, self._labels[index].tolist(), strict=True))
        for scan in row["scans"]:
            facts = json.loads(scan.pop("facts"))
            for name in [name for name in _SCAN_COLUMNS if scan[name] is None]:
                del scan[name]
            scan.update(facts)
        return row

    def column(self, name: str) -> list[Any]:
        """Read a column of plain values: study_id, patient_id, split."""
        return self._columns[name].to_pylist()

    def labels(self) -> np.ndarray:
        """Return the labels, int8, studies by labels."""
        return self._labels


def to_parquet(rows: Iterable[Row], label_names: Sequence[str]) -> bytes:
    """Encode rows; equal rows give equal bytes."""
    import pyarrow
    import pyarrow.parquet

    rows = list(rows)
    encoded = [_encoded(row) for row in rows]
    table = pyarrow.Table.from_pylist(encoded, schema=_schema())
    for name in label_names:
        values = [row["labels"].get(name, -1) for row in rows]
        column = pyarrow.array(values, pyarrow.int8())
        table = table.append_column(LABEL_PREFIX + name, column)
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(table, sink, compression="zstd")
    return sink.getvalue().to_pybytes()


def _encoded(row: Row) -> Row:
    scans = []
    for scan in row["scans"]:
        columns = {name: scan.get(name) for name in _SCAN_COLUMNS}
        facts = {k: v for k, v in scan.items() if k not in columns and k != "scan_id"}
        text = json.dumps(facts, ensure_ascii=False)
        scans.append({"scan_id": scan["scan_id"], **columns, "facts": text})
    maps = {name: list(row[name].items()) for name in ("texts", "metadata")}
    return {**row, **maps, "scans": scans}


def _schema() -> Any:
    import pyarrow as pa

    text, numbers = pa.string(), pa.list_(pa.float64())
    scan = {"scan_id": text, "shape": pa.list_(pa.int32()), "raw_shape": pa.list_(pa.int32())}
    scan |= {"raw_spacing_mm": numbers, "raw_orientation": text, "modality": text, "facts": text}
    question = {"question": text, "answer": text, "kind": text, "choices": pa.list_(text)}
    question |= {"subject": text}
    lesion = {"lesion_id": text, "box_mm": numbers, "label": pa.int32()}
    lesion |= {"place": text, "coarse": text, "fine": text}
    columns: dict[str, Any] = {"study_id": text, "patient_id": text, "split": text}
    columns |= {"texts": pa.map_(text, text), "metadata": pa.map_(text, text)}
    structs = {"scans": scan, "questions": question, "lesions": lesion}
    columns |= {name: pa.list_(pa.struct(list(it.items()))) for name, it in structs.items()}
    return pa.schema(list(columns.items()))
