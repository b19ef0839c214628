"""Write a phantom twin of CQ500: patients' folders of DICOM series, and the readers' table.

Three things the real set lacks are added: `splits.csv`, `reports.csv` (to train on) and
`ground_truth/` (masks by patient and series, `studies.json` with places and sizes).
"""

from pathlib import Path
from typing import Any

from medvlp.data.cq500 import CQ500, LABEL_NAMES, READERS
from medvlp.phantom.cq500_study import SERIES, PlannedPatient, WrittenPatient, write_patient
from medvlp.phantom.head_twin import hard_seed, head_facts, ordinary_studies, write_additions
from medvlp.phantom.source import TwinSource
from medvlp.phantom.tables import write_table
from medvlp.phantom.twin import TwinWriter
from medvlp.phantom.twin_parameters import TwinParameters

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


def write_cq500_twin(root: str | Path, parameters: TwinParameters, *, num_workers: int = 0) -> Path:
    """Write the twin; arguments and errors are those of `TwinWriter.build`.

    `root` gets the patients' folders, the tables, `ground_truth/` and `twin.json`. `splits.csv`
    tells which patients are held out. Hard cases are a series with a missing slice, one with a
    tilted gantry, one with a slice twice, a patient of a corrupt series only, and a row without a
    folder.

    Raises:
        ImportError: If pydicom is missing.
    """
    writer = TwinWriter(TITLE, FORMAT_VERSION, _plan, write_patient, _write_tables)
    return writer.build(root, parameters, num_workers=num_workers)


def _plan(parameters: TwinParameters) -> list[PlannedPatient]:
    patients: list[PlannedPatient] = []
    for split, number, seed in ordinary_studies(parameters):
        kinds, series = KINDS[number % len(KINDS)], SERIES[number % len(SERIES)]
        patients.append(PlannedPatient(split, len(patients), kinds, series, seed))
    if parameters.hard_cases:
        for number, kind in enumerate(_HARD):
            seed, series = hard_seed(parameters, number), SERIES[0][:2]
            if kind == "all scans corrupt":
                series = series[:1]
            patients.append(
                PlannedPatient("train", 500 + number, KINDS[1 + number], series, seed, kind)
            )
    return patients


def _write_tables(root: Path, written: list[WrittenPatient]) -> dict[str, Any]:
    columns = [f"{reader}:{label}" for reader in READERS for label in LABEL_NAMES]
    reads = [one.reads for one in written]
    write_table(root / "reads.csv", ("name", "Category", *columns), reads)
    write_additions(root, written)
    return head_facts(root, written, sum(len(one.planned.series) for one in written))


class PhantomCQ500(TwinSource, CQ500):
    """CQ500's twin, read by the very code that reads CQ500; see `TwinSource`."""

    name = "phantom_cq500"
    has_additions = True
    write_twin = staticmethod(write_cq500_twin)
