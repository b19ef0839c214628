"""Write a phantom twin of CT-RATE: its folders, file names, tables and raw numbers.

Beside `dataset/`, which is laid out exactly as the real one, lie `ground_truth/` (masks of organs
and findings on the grid of each volume, `labels.json` with their ids, `studies.json` with place,
side and size of every finding) and `twin.json` (the parameters).
"""

from dataclasses import asdict
from functools import partial
from pathlib import Path

from medvlp.phantom.canvas import ORGANS
from medvlp.phantom.ct_rate_plan import TwinParameters, plan_sessions
from medvlp.phantom.ct_rate_session import WrittenSession, write_session
from medvlp.phantom.ct_rate_tables import (
    LABEL_COLUMNS,
    METADATA_COLUMNS,
    REPORT_COLUMNS,
)
from medvlp.phantom.finding import LABELS, finding_id
from medvlp.phantom.findings import KINDS
from medvlp.phantom.tables import write_json, write_table
from medvlp.phantom.twin import check_sizes, finish, paint_all, prepare_root
from medvlp.types import Size3D

TITLE = "CT-RATE"
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
    root = Path(root)
    parameters = TwinParameters(num_train, num_valid, seed, shape, prevalence, hard_cases)
    check_sizes(num_train, num_valid, shape)
    if not 0 <= prevalence <= 1:
        raise ValueError(f"prevalence {prevalence} is not between 0 and 1")
    if prepare_root(root, TITLE, version=FORMAT_VERSION, parameters=asdict(parameters)):
        return root
    for folder in ("dataset", "ground_truth/organs", "ground_truth/findings"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    write = partial(write_session, root, parameters)
    written = paint_all(write, plan_sessions(parameters), num_workers, f"Painting {TITLE} twin")
    _write_tables(root, written)
    hard = [
        {"kind": entry.session.hard_case, "session": entry.session.name}
        for entry in written
        if entry.session.hard_case
    ]
    facts = {"num_volumes": sum(len(entry.metadata) for entry in written), "hard_cases": hard}
    finish(root, TITLE, version=FORMAT_VERSION, parameters=asdict(parameters), facts=facts)
    return root


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


def _write_tables(root: Path, written: list[WrittenSession]) -> None:
    dataset = root / "dataset"
    for split, prefix in _TABLE_PREFIX.items():
        entries = [entry for entry in written if entry.session.split == split]
        (dataset / split).mkdir(exist_ok=True)
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
    tiers = {kind.name: kind.tier for kind in KINDS}
    ids = {
        "organs": dict(enumerate(ORGANS)),
        "findings": {finding_id(name): name for name in LABELS},
        "tiers": {name: tiers[name] for name in LABELS},
    }
    write_json(root / "ground_truth" / "labels.json", ids)
    truth = {entry.session.name: entry.truth for entry in written}
    write_json(root / "ground_truth" / "studies.json", truth)
