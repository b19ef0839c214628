"""Write a phantom twin of RadGenome-ChestCT: resampled volumes, masks of regions, question tables.

Files, folders (train_1/train_1a, without "_") and columns are those of the real data set, and so
are two oddities: the headers state 1 mm whatever the voxels are, and the mask of the pleura is that
of the lung. All volumes have the same voxels, but as large as the shape makes them (`spacing_mm`).
Every answer is true of what was painted.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from medvlp.phantom.canvas import organ_id
from medvlp.phantom.chest_truth import truth_of, write_masks
from medvlp.phantom.chest_twin import chest_facts, chest_writer
from medvlp.phantom.ct_rate_plan import Reconstruction, Session, plan_reconstructions
from medvlp.phantom.nifti_file import write_nifti
from medvlp.phantom.radgenome_words import abnormalities, absent, phrase, region_sentences, sizes
from medvlp.phantom.reports import write_report
from medvlp.phantom.study import PhantomStudy, paint_study
from medvlp.phantom.tables import Row, write_table
from medvlp.phantom.twin_parameters import TwinParameters
from medvlp.types import Size3D, Spacing3D

FORMAT_VERSION = 1
_FIELD_MM = (320.0, 380.0, 380.0)
_PREFIX = {"train": "train", "valid": "validation"}
_KINDS = ("normal", "corrupt file", "no row", "no file", "no mask", "odd rows")
_TABLES: dict[str, tuple[str, ...]] = {
    "region_report": ("Volumename", "Anatomy", "Sentence"),
    "vqa_abnormality": ("Volumename", "Anatomy", "Abnormality"),
    "vqa_location": ("Volumename", "Anatomy", "Abnormality"),
    "vqa_presence": ("Volumename", "Anatomy", "Finding", "Presence"),
    "vqa_size": ("Volumename", "Anatomy", "Abnormality", "Size"),
    "case_disorders": ("Volumename", "Disorders"),
}
_LEFT_LUNG = ("left upper lobe", "left lower lobe")
_RIGHT_LUNG = ("right upper lobe", "right middle lobe", "right lower lobe")
_LUNG = (*_LEFT_LUNG, *_RIGHT_LUNG)
_REGIONS: dict[str, tuple[str, ...]] = {
    "lung": _LUNG,
    "pleura": _LUNG,  # as published: voxel by voxel the lung
    "heart": ("heart",),
    "esophagus": ("esophagus",),
    "mediastinum": ("mediastinum", "aorta", "pulmonary artery"),
    "bone": ("spine", "ribs and sternum"),
    "abdomen": ("liver", "spleen", "stomach", "kidneys"),
    "trachea and bronchie": ("trachea and bronchi",),
}
_PARTS: dict[str, tuple[str, ...]] = {
    "left lung": _LEFT_LUNG,
    "right lung": _RIGHT_LUNG,
    **{lobe.replace(" ", " lung ", 1): (lobe,) for lobe in _LUNG},
    "aorta": ("aorta",),
    "liver": ("liver",),
    "spleen": ("spleen",),
}


@dataclass(frozen=True)
class _Written:
    session: Session
    tables: dict[str, list[Row]]
    truth: dict[str, Any]


def spacing_mm(shape: Size3D) -> Spacing3D:
    """Return the voxels (d, h, w) of a twin, in place of the real 3 x 1 x 1 mm.

    >>> spacing_mm((64, 76, 76))
    (5.0, 5.0, 5.0)
    """
    d, h, w = (round(field / count, 4) for field, count in zip(_FIELD_MM, shape, strict=True))
    return d, h, w


def write_radgenome_twin(
    root: str | Path, parameters: TwinParameters, *, num_workers: int = 0
) -> Path:
    """Write the twin; arguments and errors are those of `TwinWriter.build`.

    `root` gets `dataset/`, `ground_truth/` and `twin.json`. Studies are sessions of one volume; the
    held-out ones are those of the published "valid" split. `shape` decides the size of the voxels.
    Hard cases are a normal volume, a truncated one, one without rows, rows without a volume, a
    volume without masks, and rows that say nothing or what cannot be.
    """
    writer = chest_writer(
        "RadGenome-ChestCT",
        FORMAT_VERSION,
        write=_write,
        write_tables=_write_tables,
        hard_kinds=_KINDS,
    )
    return writer.build(root, parameters, num_workers=num_workers)


def _write_tables(root: Path, written: list[_Written]) -> dict[str, Any]:
    dataset = root / "dataset"
    for split, prefix in _PREFIX.items():
        (dataset / f"{split}_preprocessed").mkdir(parents=True, exist_ok=True)
        entries = [entry for entry in written if entry.session.split == split]
        for table, columns in _TABLES.items():
            rows = [row for entry in entries for row in entry.tables.get(table, [])]
            write_table(dataset / "radgenome_files" / f"{prefix}_{table}.csv", columns, rows)
    truth = {entry.session.name: entry.truth for entry in written}
    num_volumes = len(list(dataset.glob("*_preprocessed/*/*/*.nii.gz")))
    return chest_facts(root, [entry.session for entry in written], truth, num_volumes)


def _write(root: Path, parameters: TwinParameters, session: Session) -> _Written:
    study = session.study(parameters)
    volume = plan_reconstructions(session, study, parameters.shape)[0]
    name = f"{volume.name}.nii.gz"
    folder = root / "dataset" / f"{session.split}_preprocessed" / session.patient_name
    folder = folder / f"{session.patient_name}{session.letter}"
    if session.hard_case != "no file" and not (folder / name).exists():
        _write_volume(root, folder / name, parameters, (session, study, volume))
    rng = np.random.default_rng((*session.study_seed, 800))
    report = write_report(study, rng, thickness_mm=3.0)
    tables = {} if session.hard_case == "no row" else _rows(name, study, report.sentences)
    if session.hard_case == "odd rows":
        tables["vqa_presence"].append(
            {"Volumename": name, "Anatomy": "lung", "Finding": "mass", "Presence": "maybe"}
        )
        tables["vqa_abnormality"].append({"Volumename": name, "Anatomy": "lung"})
        tables["region_report"].append({"Volumename": "nan", "Anatomy": "lung"})
    truth = {"split": session.split, **truth_of(study, [name])}
    return _Written(session, tables, truth)


def _write_volume(
    root: Path,
    path: Path,
    parameters: TwinParameters,
    case: tuple[Session, PhantomStudy, Reconstruction],
) -> None:
    session, study, volume = case
    grid = volume.grid.respaced(spacing_mm(parameters.shape))
    painted = paint_study(study, grid, volume.kernel, volume.noise_seed)
    write_masks(root, path.name, painted, grid.affine())
    if session.hard_case != "no mask":
        top = root / "dataset" / session.split
        _write_regions(Path(f"{top}_region_mask"), path.name, painted.organs, _REGIONS)
        _write_regions(Path(f"{top}_anatomy_mask"), path.name, painted.organs, _PARTS)
    path.parent.mkdir(parents=True, exist_ok=True)
    hu = painted.int16()
    share = 0.6 if session.hard_case == "corrupt file" else 1.0
    write_nifti(path, hu, np.eye(4), share=share)  # the header knows nothing, as published


def _write_regions(
    top: Path, name: str, organs: UInt8[np.ndarray, "d h w"], regions: dict[str, tuple[str, ...]]
) -> None:
    folder = top / f"seg_{name.split('.')[0]}"
    folder.mkdir(parents=True, exist_ok=True)
    for region, parts in regions.items():
        mask = np.isin(organs, [organ_id(part) for part in parts]).astype(np.uint8)
        write_nifti(folder / f"{region}.nii.gz", mask, np.eye(4))


def _rows(name: str, study: PhantomStudy, sentences: Mapping[str, str]) -> dict[str, list[Row]]:
    found = {place: ", ".join(some) for place, some in abnormalities(study).items()}
    missing = {place: ", ".join(some) for place, some in absent(study).items()}
    disorders = [phrase(finding.name) for finding in study.findings]

    def rows(columns: str, *cells: tuple[str, ...]) -> list[Row]:
        return [dict(zip(columns.split(), (name, *row), strict=True)) for row in cells]

    by_place = rows("Volumename Anatomy Abnormality", *found.items())
    return {
        "region_report": rows(
            "Volumename Anatomy Sentence",
            ("", "The scan was read without an earlier one."),
            *region_sentences(sentences).items(),
        ),
        "vqa_abnormality": by_place,
        "vqa_location": by_place,
        "vqa_presence": rows(
            "Volumename Anatomy Finding Presence",
            *((place, some, "Yes.") for place, some in found.items()),
            *((place, some, "No.") for place, some in missing.items()),
        ),
        "vqa_size": rows("Volumename Anatomy Abnormality Size", *sizes(study)),
        "case_disorders": rows("Volumename Disorders", (", ".join(disorders),))
        if disorders
        else [],
    }
