"""Write a phantom twin of RSNA's hemorrhage set: loose DICOM slices in one folder, labels by slice.

As in the real set, no header says more than what is needed to stack the slices, and UIDs look like
`ID_0a1b2c3d4`. Three things it lacks are added: `splits.csv`, `reports.csv` (to train on) and
`ground_truth/` (masks by series UID, `studies.json` with places and sizes).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medvlp.data.rsna import RSNA
from medvlp.phantom.head_canvas import finding_id
from medvlp.phantom.head_dicom import PixelStyle, SeriesHeader, SliceFile, write_series
from medvlp.phantom.head_lesion import BLEEDS
from medvlp.phantom.head_reports import TERMS, HeadReport, write_head_report
from medvlp.phantom.head_scan import Lattice, Look, take, take_mask
from medvlp.phantom.head_study import PaintedHead, paint_head_study, sample_head_study
from medvlp.phantom.head_twin import (
    digits,
    hard_seed,
    head_facts,
    ordinary_studies,
    reference_mm,
    thick_lattice,
    thick_spacing_mm,
    truth_of,
    write_additions,
    write_truth,
)
from medvlp.phantom.nifti_file import write_bytes
from medvlp.phantom.source import TwinSource
from medvlp.phantom.tables import Row, write_table
from medvlp.phantom.twin import TwinWriter
from medvlp.phantom.twin_parameters import TwinParameters

TITLE = "RSNA Intracranial Hemorrhage Detection"
FORMAT_VERSION = 1
KINDS = (
    (),
    ("intraparenchymal",),
    ("subdural",),
    ("subarachnoid",),
    (),
    ("intraventricular", "intraparenchymal"),
    ("epidural",),
    ("subdural", "subarachnoid"),
)
"""What is found, one after the other."""

_ROW_ORDER = ("epidural", "intraparenchymal", "intraventricular", "subarachnoid", "subdural")
_HARD = ("missing slice", "gantry tilt", "corrupt file", "unsigned header", "repeated rows")
_HEX = "0123456789abcdef"
_SEEN_VOXELS = 3  # from which a slice counts as showing a finding
_NOISE_HU = 4.0


@dataclass(frozen=True)
class PlannedStudy:
    """One study of one series.

    Attributes:
        split: train or test.
        kinds: What is found.
        seed: Of everything in it.
        hard_case: Which hard case this is; empty for ordinary studies.
    """

    split: str
    kinds: tuple[str, ...]
    seed: tuple[int, ...]
    hard_case: str = ""


@dataclass(frozen=True)
class WrittenStudy:
    """What a study adds to the tables.

    Attributes:
        planned: Which.
        study: UID.
        slices: Image name to the kinds of bleeding that it shows.
        report: For training on the twin.
        truth: For `ground_truth/studies.json`.
    """

    planned: PlannedStudy
    study: str
    slices: dict[str, frozenset[str]]
    report: HeadReport
    truth: dict[str, Any]


def write_rsna_twin(root: str | Path, parameters: TwinParameters, *, num_workers: int = 0) -> Path:
    """Write the twin; arguments and errors are those of `TwinWriter.build`.

    `root` gets `stage_2_train/`, the tables, `ground_truth/` and `twin.json`. Held-out studies lie
    among the others; `splits.csv` tells which. Hard cases are a series with a missing slice, one
    with a tilted gantry, one with a file of too few pixels, one whose header says unsigned and is
    not, and repeated rows of the table.

    Raises:
        ImportError: If pydicom is missing.
    """
    writer = TwinWriter(TITLE, FORMAT_VERSION, _plan, _write, _write_tables)
    return writer.build(root, parameters, num_workers=num_workers)


def _plan(parameters: TwinParameters) -> list[PlannedStudy]:
    studies = [
        PlannedStudy(split, KINDS[number % len(KINDS)], seed)
        for split, number, seed in ordinary_studies(parameters)
    ]
    if parameters.hard_cases:
        for number, kind in enumerate(_HARD):
            seed = hard_seed(parameters, number)
            studies.append(PlannedStudy("train", KINDS[1 + number], seed, kind))
    return studies


def _write(root: Path, parameters: TwinParameters, planned: PlannedStudy) -> WrittenStudy:
    study = sample_head_study(planned.seed, planned.seed, planned.kinds)
    painted = paint_head_study(study, ("ct",), spacing_mm=reference_mm(parameters.shape))
    rng = np.random.default_rng((*planned.seed, 7))
    where = _where(planned, parameters, rng)
    hu = take(painted, "ct", where, Look(_NOISE_HU), rng)
    header = SeriesHeader(
        patient=f"ID_{digits(rng, 8, _HEX)}",
        study=f"ID_{digits(rng, 10, _HEX)}",
        series=f"ID_{digits(rng, 10, _HEX)}",
        style=_style(planned, rng),
        elements={"StudyID": ""},
    )
    names = [f"ID_{digits(rng, 9, _HEX)}" for _ in range(where.size[0])]
    slices = [SliceFile(f"{name}.dcm", name, index) for index, name in enumerate(names)]
    if planned.hard_case == "missing slice":
        del slices[len(slices) // 2]
    folder = root / "stage_2_train"
    folder.mkdir(exist_ok=True)
    write_series(folder, hu, where, header, slices)
    if planned.hard_case == "corrupt file":
        path = folder / slices[3].name
        content = path.read_bytes()
        write_bytes(path, content[: int(0.6 * len(content))])
    write_truth(root, header.series, painted, where)
    shown = _shown(painted, where)
    report = write_head_report(study, np.random.default_rng((*planned.seed, 8)), terms=_terms())
    return WrittenStudy(
        planned,
        header.study,
        {part.uid: shown[part.index] for part in slices},
        report,
        {"split": planned.split, "series": header.series, **truth_of(study)},
    )


def _terms() -> dict[str, str]:
    return {kind: TERMS[kind] for kind in BLEEDS}


def _where(planned: PlannedStudy, parameters: TwinParameters, rng: np.random.Generator) -> Lattice:
    spacing = thick_spacing_mm(parameters.shape, float(rng.choice([5.0, 5.5, 6.5])))
    gantry_deg = 16.0 if planned.hard_case == "gantry tilt" else 0.0
    tilt_deg = float(rng.uniform(-12, 12)) if rng.random() < 0.2 and not gantry_deg else 0.0
    return thick_lattice("axial", spacing, rng, tilt_deg=tilt_deg, gantry_deg=gantry_deg)


def _style(planned: PlannedStudy, rng: np.random.Generator) -> PixelStyle:
    if planned.hard_case == "unsigned header":
        return PixelStyle(intercept=0, wrapped=True)
    return PixelStyle(signed=True, intercept=0) if rng.random() < 0.4 else PixelStyle()


def _shown(painted: PaintedHead, where: Lattice) -> list[frozenset[str]]:
    """Say which kinds of bleeding each slice shows."""
    ids = take_mask(painted, "findings", where)
    counts = {kind: (ids == finding_id(kind)).sum((1, 2)) for kind in BLEEDS}
    return [
        frozenset(kind for kind, count in counts.items() if count[index] >= _SEEN_VOXELS)
        for index in range(where.size[0])
    ]


def _write_tables(root: Path, written: list[WrittenStudy]) -> dict[str, Any]:
    rows: list[Row] = []
    for one in written:
        for image, kinds in one.slices.items():
            labels = {kind: int(kind in kinds) for kind in _ROW_ORDER} | {"any": int(bool(kinds))}
            lines: list[Row] = [
                {"ID": f"{image}_{kind}", "Label": value} for kind, value in labels.items()
            ]
            repeat = one.planned.hard_case == "repeated rows" and image == min(one.slices)
            rows += lines * (2 if repeat else 1)
    write_table(root / "stage_2_train.csv", ("ID", "Label"), rows)
    write_additions(root, written)
    return head_facts(root, written, len(written))


class PhantomRSNA(TwinSource, RSNA):
    """RSNA's twin, read by the very code that reads RSNA; see `TwinSource`."""

    name = "phantom_rsna"
    has_additions = True
    write_twin = staticmethod(write_rsna_twin)
