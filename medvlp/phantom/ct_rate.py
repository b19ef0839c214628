"""Write a phantom twin of CT-RATE: its folders, file names, tables and raw numbers.

Beside `dataset/`, which is laid out exactly as the real one, lie `ground_truth/` (masks of organs
and findings on the grid of each volume, `labels.json` with their ids, `studies.json` with place,
side and size of every finding) and `twin.json` (the parameters).
"""

import json
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from rich.progress import Progress, TextColumn, TimeRemainingColumn

from medvlp.phantom.canvas import ORGANS
from medvlp.phantom.ct_rate_plan import TwinParameters, plan_sessions
from medvlp.phantom.ct_rate_session import WrittenSession, write_session
from medvlp.phantom.ct_rate_tables import (
    LABEL_COLUMNS,
    METADATA_COLUMNS,
    REPORT_COLUMNS,
    write_table,
)
from medvlp.phantom.finding import LABELS, finding_id
from medvlp.phantom.findings import KINDS
from medvlp.phantom.nifti_file import write_bytes
from medvlp.types import Size3D

FORMAT_VERSION = 1
_TABLE_PREFIX = {"train": "train", "valid": "validation"}  # as the published tables are named
_MIN_SIZE = 16


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
    _check(parameters)
    if _is_finished(root, parameters):
        return root
    for folder in ("dataset", "ground_truth/organs", "ground_truth/findings"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    _write_json(root / "twin.json", _description(parameters, finished=False))
    _finish(root, parameters, _write_sessions(root, parameters, num_workers))
    return root


def _check(parameters: TwinParameters) -> None:
    if parameters.num_train < 1 or parameters.num_valid < 0:
        raise ValueError(
            f"num_train={parameters.num_train} and num_valid={parameters.num_valid}: "
            "at least one training session is needed, and no negative number"
        )
    if min(parameters.shape) < _MIN_SIZE:
        raise ValueError(f"shape {parameters.shape} is too small, take {_MIN_SIZE} or more")
    if not 0 <= parameters.prevalence <= 1:
        raise ValueError(f"prevalence {parameters.prevalence} is not between 0 and 1")


def _description(parameters: TwinParameters, *, finished: bool) -> dict[str, Any]:
    return {
        "twin_of": "CT-RATE",
        "version": FORMAT_VERSION,
        "parameters": {**asdict(parameters), "shape": list(parameters.shape)},
        "finished": finished,
    }


def _is_finished(root: Path, parameters: TwinParameters) -> bool:
    record = root / "twin.json"
    if not record.exists():
        if (root / "dataset").exists():
            raise ValueError(
                f"{root} holds a data set that is not a twin (no twin.json); nothing is written "
                "there: choose another folder"
            )
        return False
    found = json.loads(record.read_text(encoding="utf-8"))
    wanted = _description(parameters, finished=True)
    differing = [
        f"{key}: found {found.get('parameters', {}).get(key)}, asked for {value}"
        for key, value in wanted["parameters"].items()
        if found.get("parameters", {}).get(key) != value
    ]
    if found.get("version") != FORMAT_VERSION:
        differing.append(f"version: found {found.get('version')}, asked for {FORMAT_VERSION}")
    if differing:
        raise ValueError(
            f"{root} holds a twin of other parameters ({'; '.join(differing)}); "
            "choose another folder, or delete this one"
        )
    return bool(found.get("finished"))


def _write_sessions(
    root: Path, parameters: TwinParameters, num_workers: int
) -> list[WrittenSession]:
    sessions = plan_sessions(parameters)
    write = partial(write_session, root, parameters)
    columns = (*Progress.get_default_columns()[:3], TextColumn("{task.fields[rate]}"))
    with Progress(*columns, TimeRemainingColumn()) as progress, _pool(num_workers) as pool:
        task = progress.add_task("Painting CT-RATE twin", total=len(sessions), rate="")
        results = pool.map(write, sessions, chunksize=8) if pool else map(write, sessions)
        written: list[WrittenSession] = []
        for result in results:
            written.append(result)
            rate = len(written) / max(progress.tasks[task].elapsed or 0.0, 1e-3)
            progress.update(task, advance=1, rate=f"{rate:.0f} studies/s")
    return written


@contextmanager
def _pool(num_workers: int) -> Iterator[ProcessPoolExecutor | None]:
    """Start processes with one thread each: many small arrays gain nothing from more."""
    if num_workers == 0:
        yield None
        return
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        with ProcessPoolExecutor(num_workers, mp_context=get_context("spawn")) as pool:
            yield pool
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def _finish(root: Path, parameters: TwinParameters, written: list[WrittenSession]) -> None:
    _write_tables(root, written)
    description = _description(parameters, finished=True)
    description["num_volumes"] = sum(len(entry.metadata) for entry in written)
    description["hard_cases"] = [
        {"kind": entry.session.hard_case, "session": entry.session.name}
        for entry in written
        if entry.session.hard_case
    ]
    _write_json(root / "twin.json", description)


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
    _write_json(root / "ground_truth" / "labels.json", ids)
    truth = {entry.session.name: entry.truth for entry in written}
    _write_json(root / "ground_truth" / "studies.json", truth)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    write_bytes(path, (json.dumps(content, indent=1) + "\n").encode("utf-8"))
