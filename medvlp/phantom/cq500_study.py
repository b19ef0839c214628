"""Write one patient of a CQ500 twin: series with and without contrast medium, three readers."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medvlp.data.cq500 import LABEL_NAMES, READERS
from medvlp.phantom.head_dicom import PixelStyle, SeriesHeader, SliceFile, write_series
from medvlp.phantom.head_lesion import BLEEDS
from medvlp.phantom.head_reports import TERMS, HeadReport, write_head_report
from medvlp.phantom.head_scan import Look, take
from medvlp.phantom.head_study import (
    MASS_EFFECT_MM,
    MIDLINE_SHIFT_MM,
    HeadStudy,
    PaintedHead,
    paint_head_study,
    sample_head_study,
)
from medvlp.phantom.head_twin import (
    reference_mm,
    thick_lattice,
    thick_spacing_mm,
    truth_of,
    write_truth,
)
from medvlp.phantom.nifti_file import write_bytes
from medvlp.phantom.tables import Row
from medvlp.phantom.twin_parameters import TwinParameters

_BLEED_COLUMNS = {
    "intraparenchymal": "IPH",
    "intraventricular": "IVH",
    "subdural": "SDH",
    "epidural": "EDH",
    "subarachnoid": "SAH",
}
_DISSENT = 0.03  # share of a reader's answers that differ from the truth
_UID_ROOT = "1.2.826.0.1.3680043.10.1500"
_CONTRAST_HU = 12.0  # what contrast medium adds to the brain


@dataclass(frozen=True)
class Series:
    """One series of a patient.

    Attributes:
        name: Of its folder.
        spacing_mm: Of its slices.
        noise_hu: Of its kernel.
        contrast: Whether contrast medium was given.
    """

    name: str
    spacing_mm: float
    noise_hu: float
    contrast: bool = False


SERIES = (
    (Series("CT Plain", 5.0, 4.0), Series("CT PLAIN THIN", 3.0, 6.0)),
    (Series("CT 5mm", 5.0, 4.0), Series("CT 2.55mm", 2.5, 6.0), Series("CT BONE", 5.0, 25.0)),
    (
        Series("CT PRE CONTRAST THIN", 3.0, 6.0),
        Series("CT POST CONTRAST", 5.0, 4.0, contrast=True),
        Series("CT 55mm Plain", 6.5, 4.0),
    ),
    (
        Series("CT Thin Plain", 3.0, 6.0),
        Series("CT Plain 3mm", 3.0, 5.0),
        Series("CT 4cc sec 150cc D3D on", 5.0, 4.0, contrast=True),
    ),
)
"""What patients have, one after the other; thin series would be thinner than this."""


@dataclass(frozen=True)
class PlannedPatient:
    """One patient.

    Attributes:
        split: train or test.
        number: In the patient's name.
        kinds: What is found.
        series: What was scanned.
        seed: Of everything in it.
        hard_case: Which hard case this is; empty for ordinary patients.
    """

    split: str
    number: int
    kinds: tuple[str, ...]
    series: tuple[Series, ...]
    seed: tuple[int, ...]
    hard_case: str = ""

    @property
    def name(self) -> str:
        """Return the patient's name in the table."""
        return f"CQ500-CT-{self.number}"


@dataclass(frozen=True)
class WrittenPatient:
    """What a patient adds to the tables.

    Attributes:
        planned: Which.
        reads: Row of `reads.csv`.
        report: For training on the twin.
        truth: For `ground_truth/studies.json`.
    """

    planned: PlannedPatient
    reads: Row
    report: HeadReport
    truth: dict[str, Any]

    @property
    def study(self) -> str:
        """Return the patient's name in the table."""
        return self.planned.name


def write_patient(
    root: Path, parameters: TwinParameters, planned: PlannedPatient
) -> WrittenPatient:
    """Write the series of a patient; say what belongs into the tables."""
    study = sample_head_study(planned.seed, planned.seed, planned.kinds)
    painted = paint_head_study(study, ("ct",), spacing_mm=reference_mm(parameters.shape))
    rng = np.random.default_rng((*planned.seed, 7))
    folder = root / f"CQ500CT{planned.number} CQ500CT{planned.number}" / "Unknown Study"
    tilt_deg = float(rng.uniform(-12, 12)) if rng.random() < 0.2 else 0.0
    if planned.hard_case != "no folder":
        for number in range(len(planned.series)):
            _write_series(root, folder, planned, number, painted, parameters, tilt_deg=tilt_deg)
    truth = _labels(study)
    terms = {kind: TERMS[kind] for kind in (*BLEEDS, "fracture")}
    report = write_head_report(study, np.random.default_rng((*planned.seed, 8)), terms=terms)
    return WrittenPatient(
        planned, _reads(planned, truth, rng), report, {"split": planned.split, **truth_of(study)}
    )


def _write_series(
    root: Path,
    folder: Path,
    planned: PlannedPatient,
    number: int,
    painted: PaintedHead,
    parameters: TwinParameters,
    *,
    tilt_deg: float,
) -> None:
    series = planned.series[number]
    rng = np.random.default_rng((*planned.seed, 20 + number))
    gantry_deg = -14.0 if planned.hard_case == "gantry tilt" and number == 0 else 0.0
    where = thick_lattice(
        "axial",
        thick_spacing_mm(parameters.shape, series.spacing_mm),
        rng,
        tilt_deg=tilt_deg,
        gantry_deg=gantry_deg,
    )
    hu = take(painted, "ct", where, Look(series.noise_hu), rng)
    if series.contrast:
        hu += np.float32(_CONTRAST_HU) * ((hu > 15) & (hu < 200))
    header = _header(planned, number, parameters, gantry_deg)
    slices = [
        SliceFile(f"CT{index:06d}.dcm", f"{header.series}.{index}", index)
        for index in range(where.size[0])
    ]
    if planned.hard_case == "missing slice" and number == 0:
        del slices[len(slices) // 2]
    if planned.hard_case == "duplicated instance":
        last = slices[-1]
        slices.append(SliceFile(f"CT{len(slices):06d}.dcm", last.uid, last.index))
    (folder / series.name).mkdir(parents=True, exist_ok=True)
    write_series(folder / series.name, hu, where, header, slices)
    if planned.hard_case == "all scans corrupt":
        path = folder / series.name / slices[2].name
        write_bytes(path, path.read_bytes()[:400])
    write_truth(root, f"{planned.name}/{series.name}", painted, where)


def _header(
    planned: PlannedPatient, number: int, parameters: TwinParameters, gantry_deg: float
) -> SeriesHeader:
    series = planned.series[number]
    uid = f"{_UID_ROOT}.{parameters.seed}.{planned.number}"
    return SeriesHeader(
        patient=f"CQ500CT{planned.number}",
        study=uid,
        series=f"{uid}.{number}",
        style=PixelStyle(signed=bool(planned.number % 2)),
        elements={
            "SOPClassUID": "1.2.840.10008.5.1.4.1.1.2",
            "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
            "SeriesDescription": series.name.removeprefix("CT "),
            "SeriesNumber": number + 2,
            "SliceThickness": f"{series.spacing_mm:g}",
            "GantryDetectorTilt": f"{gantry_deg:g}",
        },
        number_instances=True,
    )


def _labels(study: HeadStudy) -> dict[str, bool]:
    sides = {lesion.side for lesion in study.bleeds}
    shift_mm = abs(study.head.shift_mm)
    labels = dict.fromkeys(LABEL_NAMES, False)
    labels |= {column: kind in study.kinds for kind, column in _BLEED_COLUMNS.items()}
    labels["ICH"] = bool(study.bleeds)
    labels["BleedLocation-Left"] = bool(sides & {"left", "bilateral"})
    labels["BleedLocation-Right"] = bool(sides & {"right", "bilateral"})
    labels["ChronicBleed"] = any(lesion.old for lesion in study.bleeds)
    labels["Fracture"] = labels["CalvarialFracture"] = "fracture" in study.kinds
    labels["MassEffect"] = shift_mm >= MASS_EFFECT_MM
    labels["MidlineShift"] = shift_mm >= MIDLINE_SHIFT_MM
    return labels


def _reads(planned: PlannedPatient, truth: dict[str, bool], rng: np.random.Generator) -> Row:
    """Let three readers answer; at most one of them errs on a question."""
    row: dict[str, str | int] = {"name": planned.name, "Category": f"B{1 + planned.number % 2}"}
    wrong = {
        label: int(rng.integers(len(READERS))) if rng.random() < len(READERS) * _DISSENT else -1
        for label in LABEL_NAMES
    }
    for number, reader in enumerate(READERS):
        for label in LABEL_NAMES:
            row[f"{reader}:{label}"] = int(truth[label] != (wrong[label] == number))
    return row
