"""Write a phantom twin of CT-RATE: its folders, file names, tables and raw numbers.

Beside `dataset/`, which is laid out exactly as the real one, lie `ground_truth/` (masks of organs
and findings on the grid of each volume, `labels.json` with their ids, `studies.json` with place,
side and size of every finding) and `twin.json` (the parameters).
"""

from functools import partial
from pathlib import Path

from medvlp.phantom.chest_twin import ChestTwin
from medvlp.phantom.ct_rate_plan import TwinParameters
from medvlp.phantom.ct_rate_session import Layout, WrittenSession, store_raw, write_session
from medvlp.phantom.ct_rate_tables import LABEL_COLUMNS, METADATA_COLUMNS, REPORT_COLUMNS
from medvlp.phantom.tables import write_table
from medvlp.types import Size3D

FORMAT_VERSION = 1
_TABLE_PREFIX = {"train": "train", "valid": "validation"}  # as the published tables are named


def write_ct_rate_twin(
    root: str | Path,
    *,
    num_train: int,
    num_valid: int,
    seed: int = 0,
    shape: Size3D = (64, 64, 64),
    prevalence: float = 0.3,
    num_workers: int = 0,
    hard_cases: bool = False,
) -> Path:
    """Write the twin, or finish one that was interrupted; a finished one is left as it is.

    Args:
        root: Gets `dataset/`, `ground_truth/` and `twin.json`.
        num_train: Training sessions.
        num_valid: Validation sessions.
        seed: Of everything. More sessions of the same seed begin with the same ones.
        shape: Typical voxels along z, y, x; every volume differs a little.
        prevalence: Share of the sessions with each finding.
        num_workers: Processes; 0 writes in this one.
        hard_cases: Add a normal study, one of four scans, one of odd spacing, one truncated file
            and two pairs of twins that differ in side only; `twin.json` lists them.

    Returns:
        `root`.

    Raises:
        ValueError: If a parameter is out of range, or `root` holds something else.
    """
    parameters = TwinParameters(num_train, num_valid, seed, shape, prevalence, hard_cases)
    twin = ChestTwin(Path(root), "CT-RATE", FORMAT_VERSION, parameters)
    return write_version(twin, Layout("{split}", store_raw), num_workers)


def write_version(twin: ChestTwin, layout: Layout, num_workers: int) -> Path:
    """Write a twin of CT-RATE in the layout of one of its versions."""
    if twin.begin():
        return twin.root
    write = partial(write_session, twin.root, twin.parameters, layout)
    written = twin.paint(write, num_workers)
    for split in _TABLE_PREFIX:
        folder = twin.root / "dataset" / layout.folder.format(split=split)
        folder.mkdir(parents=True, exist_ok=True)
        _write_tables(twin.root / "dataset", split, written)
    truth = {entry.session.name: entry.truth for entry in written}
    num_volumes = sum(len(entry.metadata) for entry in written)
    twin.finish([entry.session for entry in written], truth, num_volumes)
    return twin.root


def write_twin(
    root: str | Path,
    *,
    num_train: int,
    num_test: int,
    seed: int = 0,
    shape: Size3D = (64, 64, 64),
    num_workers: int = 0,
    hard_cases: bool = False,
    prevalence: float = 0.3,
) -> Path:
    """Write the twin with the arguments that all twins have; see `write_ct_rate_twin`."""
    return write_ct_rate_twin(
        root,
        num_train=num_train,
        num_valid=num_test,
        seed=seed,
        shape=shape,
        prevalence=prevalence,
        num_workers=num_workers,
        hard_cases=hard_cases,
    )


def _write_tables(dataset: Path, split: str, written: list[WrittenSession]) -> None:
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
