"""Write a phantom twin of CQ500: patients' folders of DICOM series, and the readers' table.

Three things the real set lacks are added: `splits.csv`, `reports.csv` (to train on) and
`ground_truth/` (masks by patient and series, `studies.json` with places and sizes).
"""

from pathlib import Path
from typing import Any

from medvlp.data.cq500 import CQ500, LABEL_NAMES, READERS
from medvlp.phantom.cq500_study import SERIES, PlannedPatient, WrittenPatient, write_patient
from medvlp.phantom.head_twin import (
    HARD_SEED,
    TwinParameters,
    build_twin,
    seed_of,
    write_truth_tables,
)
from medvlp.phantom.source import TwinSource
from medvlp.phantom.tables import Row, write_table
from medvlp.types import Size3D

TITLE = "CQ500"
FORMAT_VERSION = 1
KINDS = (
    (),
    ("intraparenchymal",),
    ("subdural",),
    ("fracture", "epidural"),
    ("subarachnoid",),
    (),
    ("intraventricular", "intraparenchymal"),
    ("fracture",),
    ("subdural", "subarachnoid"),
)
"""What is found, one after the other."""

_HARD = (
    "missing slice",
    "gantry tilt",
    "duplicated instance",
    "all scans corrupt",
    "no folder",
)


def write_cq500_twin(
    root: str | Path,
    *,
    num_train: int,
    num_test: int,
    seed: int = 0,
    shape: Size3D = (48, 56, 56),
    num_workers: int = 0,
    hard_cases: bool = True,
) -> Path:
    """Write the twin; a finished one is left as it is.

    Args:
        root: Gets the patients' folders, the tables, `ground_truth/` and `twin.json`.
        num_train: Patients to train on.
        num_test: Held-out patients; `splits.csv` tells which.
        seed: Of everything.
        shape: Typical voxels along z, y, x; thick slices are fewer.
        num_workers: Processes; 0 writes in this one.
        hard_cases: Add a series with a missing slice, one with a tilted gantry, one with a slice
            twice, a patient of a corrupt series only, a row without a folder.

    Returns:
        `root`.

    Raises:
        ValueError: If a parameter is out of range, or `root` holds something else.
        ImportError: If pydicom is missing.
    """
    return build_twin(
        root,
        TITLE,
        TwinParameters(num_train, num_test, seed, shape, hard_cases),
        version=FORMAT_VERSION,
        plan=_plan,
        write=write_patient,
        write_tables=_write_tables,
        num_workers=num_workers,
    )


def _plan(parameters: TwinParameters) -> list[PlannedPatient]:
    patients: list[PlannedPatient] = []
    for split, count in (("train", parameters.num_train), ("test", parameters.num_test)):
        for number in range(count):
            seed = seed_of(parameters, split, number)
            kinds, series = KINDS[number % len(KINDS)], SERIES[number % len(SERIES)]
            patients.append(PlannedPatient(split, len(patients), kinds, series, seed))
    if parameters.hard_cases:
        for number, kind in enumerate(_HARD):
            seed = (parameters.seed, HARD_SEED, number)
            series = SERIES[0][: 1 if kind == "all scans corrupt" else 2]
            patients.append(
                PlannedPatient("train", 500 + number, KINDS[1 + number], series, seed, kind)
            )
    return patients


def _write_tables(root: Path, written: list[WrittenPatient]) -> dict[str, Any]:
    columns = [f"{reader}:{label}" for reader in READERS for label in LABEL_NAMES]
    reads = [one.reads for one in written]
    write_table(root / "reads.csv", ("name", "Category", *columns), reads)
    splits: list[Row] = [{"study": one.planned.name, "split": one.planned.split} for one in written]
    write_table(root / "splits.csv", ("study", "split"), splits)
    reports: list[Row] = [
        {
            "study": one.planned.name,
            "findings": one.report.findings,
            "impression": one.report.impression,
        }
        for one in written
    ]
    write_table(root / "reports.csv", ("study", "findings", "impression"), reports)
    write_truth_tables(root, {one.planned.name: one.truth for one in written})
    hard = [
        {"kind": one.planned.hard_case, "study": one.planned.name}
        for one in written
        if one.planned.hard_case
    ]
    return {"num_volumes": sum(len(one.planned.series) for one in written), "hard_cases": hard}


class PhantomCQ500(TwinSource, CQ500):
    """CQ500's twin, read by the very code that reads CQ500; see `TwinSource`."""

    name = "phantom_cq500"
    has_additions = True
    write_twin = staticmethod(write_cq500_twin)
