"""Write a phantom twin of CT-RATE: its folders, file names, tables and raw numbers.

Beside `dataset/`, which is laid out exactly as the real one, lie `ground_truth/` (masks of organs
and findings on the grid of each volume, `labels.json` with their ids, `studies.json` with place,
side and size of every finding) and `twin.json` (the parameters).
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from medvlp.phantom.chest_twin import chest_facts, chest_writer
from medvlp.phantom.ct_rate_plan import HARD_KINDS, Session
from medvlp.phantom.ct_rate_session import Layout, WrittenSession, store_raw, write_session
from medvlp.phantom.ct_rate_tables import LABEL_COLUMNS, METADATA_COLUMNS, REPORT_COLUMNS
from medvlp.phantom.tables import write_table
from medvlp.phantom.twin import TwinWriter
from medvlp.phantom.twin_parameters import TwinParameters

FORMAT_VERSION = 1
_TABLE_PREFIX = {"train": "train", "valid": "validation"}  # as the published tables are named


def write_ct_rate_twin(
    root: str | Path, parameters: TwinParameters, *, num_workers: int = 0
) -> Path:
    """Write the twin; arguments and errors are those of `TwinWriter.build`.

    `root` gets `dataset/`, `ground_truth/` and `twin.json`. Studies are sessions; the held-out ones
    are those of the published "valid" split. Hard cases are a normal study, one of four scans, one
    of odd spacing, one truncated file and two pairs of twins that differ in side only; `twin.json`
    lists them.
    """
    writer = version_writer("CT-RATE", FORMAT_VERSION, Layout("{split}", store_raw))
    return writer.build(root, parameters, num_workers=num_workers)


def version_writer(
    title: str,
    version: int,
    layout: Layout,
    *,
    hard_kinds: Sequence[str] = HARD_KINDS,
    write_more: Callable[[Path, list[WrittenSession]], None] | None = None,
) -> TwinWriter[Session, WrittenSession]:
    """Describe a twin of CT-RATE in the layout of one of its versions; see `chest_writer`.

    Args:
        title: See `chest_writer`.
        version: See `chest_writer`.
        layout: Of the volumes.
        hard_kinds: See `chest_writer`.
        write_more: Writes files of this version alone beside the tables.
    """
    return chest_writer(
        title,
        version,
        write=partial(write_session, layout),
        write_tables=partial(_write_tables, layout, write_more),
        hard_kinds=hard_kinds,
    )


def _write_tables(
    layout: Layout,
    write_more: Callable[[Path, list[WrittenSession]], None] | None,
    root: Path,
    written: list[WrittenSession],
) -> dict[str, Any]:
    for split in _TABLE_PREFIX:
        folder = root / "dataset" / layout.folder.format(split=split)
        folder.mkdir(parents=True, exist_ok=True)
        _write_split(root / "dataset", split, written)
    if write_more is not None:
        write_more(root, written)
    truth = {entry.session.name: entry.truth for entry in written}
    num_volumes = sum(len(entry.metadata) for entry in written)
    return chest_facts(root, [entry.session for entry in written], truth, num_volumes)


def _write_split(dataset: Path, split: str, written: list[WrittenSession]) -> None:
    entries = [entry for entry in written if entry.session.split == split]
    prefix = _TABLE_PREFIX[split]
    for path, columns, rows in (
        (
            f"metadata/{prefix}_metadata.csv",
            METADATA_COLUMNS,
            [row for entry in entries for row in entry.metadata],
        ),
        (
            f"radiology_text_reports/{prefix}_reports.csv",
            REPORT_COLUMNS,
            [row for entry in entries for row in entry.reports],
        ),
        (
            f"multi_abnormality_labels/{split}_predicted_labels.csv",
            LABEL_COLUMNS,
            [row for entry in entries for row in entry.labels],
        ),
    ):
        write_table(dataset / path, columns, rows)
