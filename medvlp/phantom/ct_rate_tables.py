"""The tables of CT-RATE: metadata, reports and labels with the published columns."""

import numpy as np

from medvlp.phantom.ct_rate_plan import Reconstruction, Session
from medvlp.phantom.finding import LABELS
from medvlp.phantom.reports import Report
from medvlp.phantom.study import PhantomStudy
from medvlp.phantom.tables import Row

METADATA_COLUMNS: tuple[str, ...] = (
    "VolumeName",
    "Manufacturer",
    "SeriesDescription",
    "ManufacturerModelName",
    "PatientSex",
    "PatientAge",
    "ReconstructionDiameter",
    "DistanceSourceToDetector",
    "DistanceSourceToPatient",
    "GantryDetectorTilt",
    "TableHeight",
    "RotationDirection",
    "ExposureTime",
    "XRayTubeCurrent",
    "Exposure",
    "FilterType",
    "GeneratorPower",
    "FocalSpots",
    "ConvolutionKernel",
    "PatientPosition",
    "RevolutionTime",
    "SingleCollimationWidth",
    "TotalCollimationWidth",
    "TableSpeed",
    "TableFeedPerRotation",
    "SpiralPitchFactor",
    "DataCollectionCenterPatient",
    "ReconstructionTargetCenterPatient",
    "ExposureModulationType",
    "CTDIvol",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "SliceLocation",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "Rows",
    "Columns",
    "XYSpacing",
    "RescaleIntercept",
    "RescaleSlope",
    "RescaleType",
    "NumberofSlices",
    "ZSpacing",
    "StudyDate",
)
REPORT_COLUMNS = (
    "VolumeName",
    "ClinicalInformation_EN",
    "Technique_EN",
    "Findings_EN",
    "Impressions_EN",
)
LABEL_COLUMNS = ("VolumeName", *LABELS)


def metadata_row(session: Session, study: PhantomStudy, volume: Reconstruction) -> Row:
    """Return what CT-RATE's metadata table says about a volume."""
    rng = np.random.default_rng((*session.study_seed, 700))
    age = int(np.random.default_rng((*session.person_seed, 701)).integers(20, 85))
    current = int(rng.integers(100, 420))
    visit = "abc".index(session.letter)
    grid, kind = volume.grid, volume.scanner["sharp" if volume.sharp else "soft"]
    z, y, x = (round(value, 4) for value in grid.origin_mm)
    return {
        **volume.scanner["columns"],
        "VolumeName": f"{volume.name}.nii.gz",
        "SeriesDescription": kind["series"],
        "PatientSex": study.thorax.sex,
        "PatientAge": f"{age + visit:03d}Y",
        "ReconstructionDiameter": round(grid.spacing_mm[2] * grid.shape[2]),
        "GantryDetectorTilt": 0,
        "TableHeight": int(rng.integers(70, 180)),
        "XRayTubeCurrent": current,
        "Exposure": round(current * 0.6),
        "FilterType": kind["filter"],
        "ConvolutionKernel": kind["kernel"],
        "PatientPosition": "HFS",
        "ImagePositionPatient": f"[{x}, {y}, {z}]",
        "ImageOrientationPatient": "[1, 0, 0, 0, 1, 0]",
        "SliceLocation": z,
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": grid.shape[1],
        "Columns": grid.shape[2],
        "XYSpacing": f"[{grid.spacing_mm[2]}, {grid.spacing_mm[1]}]",
        "RescaleIntercept": volume.scanner["intercept"],
        "RescaleSlope": 1,
        "RescaleType": volume.scanner["rescale_type"],
        "NumberofSlices": grid.shape[0],
        "ZSpacing": grid.spacing_mm[0],
        "StudyDate": f"{2019 + visit}{rng.integers(1, 13):02d}{rng.integers(1, 29):02d}",
    }


def report_row(volume: Reconstruction, report: Report) -> Row:
    """Return the report of a volume; all volumes of a session have the same."""
    return {
        "VolumeName": f"{volume.name}.nii.gz",
        "ClinicalInformation_EN": report.indication,
        "Technique_EN": report.technique,
        "Findings_EN": report.findings,
        "Impressions_EN": report.impression,
    }


def label_row(volume: Reconstruction, study: PhantomStudy) -> Row:
    """Return the 18 labels of a volume."""
    labels = {name: int(name in study.names) for name in LABELS}
    return {"VolumeName": f"{volume.name}.nii.gz", **labels}
