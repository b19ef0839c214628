"""Write a phantom twin of Rad-ChestCT: .npz volumes, label tables of abnormality and location.

`<root>/trn00001.npz` and so on hold "ct": int16 HU clipped to -1000..1000, slices downwards, rows
to the back, columns to the left, isotropic. The real voxels have 0.8 mm; these are as large as the
shape makes them (`spacing_mm`), so that a few dozen of them still hold a chest. The tables have all
84 abnormalities, at those of the 52 locations that the twin's findings need.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medvlp.phantom.chest_truth import truth_of, write_masks
from medvlp.phantom.chest_twin import chest_facts, chest_writer
from medvlp.phantom.ct_rate_plan import Session, plan_reconstructions
from medvlp.phantom.npz_file import write_npz
from medvlp.phantom.rad_chestct_labels import COLUMNS, positive_columns
from medvlp.phantom.study import PaintedVolume, PhantomStudy, paint_study
from medvlp.phantom.tables import Row, write_table
from medvlp.phantom.twin_parameters import TwinParameters
from medvlp.types import Size3D

FORMAT_VERSION = 1
_HEIGHT_MM = 320.0
_CLIP_HU = 1000
_VALID_EVERY = 6  # of the training sessions, one goes into the table of the validation split
_KINDS = ("normal", "corrupt file", "no row", "no file")
_PREFIX = {"train": "trn", "valid": "val", "test": "tst"}


@dataclass(frozen=True)
class _Written:
    session: Session
    split: str
    key: str
    patient: str
    columns: frozenset[str]
    truth: dict[str, Any]


def spacing_mm(shape: Size3D) -> float:
    """Return the edge of the voxels of a twin, in place of the real 0.8 mm.

    >>> spacing_mm((64, 64, 64))
    5.0
    """
    return round(_HEIGHT_MM / shape[0], 4)


def write_rad_chestct_twin(
    root: str | Path, parameters: TwinParameters, *, num_workers: int = 0
) -> Path:
    """Write the twin; arguments and errors are those of `TwinWriter.build`.

    `root` gets the volumes, the tables, `ground_truth/` and `twin.json`. Studies to train on fill
    the training and the validation table. The first number of `shape` decides the size of the
    voxels. Hard cases are a normal volume, a truncated one, one without a row, a row without a
    volume, and mirrored twins.
    """
    writer = chest_writer(
        "Rad-ChestCT", FORMAT_VERSION, write=_write, write_tables=_write_tables, hard_kinds=_KINDS
    )
    return writer.build(root, parameters, num_workers=num_workers)


def _write_tables(root: Path, written: list[_Written]) -> dict[str, Any]:
    for split in _PREFIX:
        rows = [_row(entry) for entry in written if entry.split == split]
        rows = [row for row in rows if row is not None]
        name = f"img{split}_Abnormality_and_Location_Labels.csv"
        write_table(root / name, ("NoteAcc_DEID", *COLUMNS), rows)
    patients: list[Row] = [{"NoteAcc_DEID": e.key, "MRN_DEID": e.patient} for e in written]
    name = "CT_Scan_Metadata_Complete_35747.csv"
    write_table(root / name, ("NoteAcc_DEID", "MRN_DEID"), patients)
    truth = {entry.key: entry.truth for entry in written}
    num_volumes = len(list(root.glob("*.npz")))
    return chest_facts(root, [entry.session for entry in written], truth, num_volumes)


def _write(root: Path, parameters: TwinParameters, session: Session) -> _Written:
    study = session.study(parameters)
    split, key = _name(session)
    volume = plan_reconstructions(session, study, parameters.shape)[0]
    edge = spacing_mm(parameters.shape)
    grid = volume.grid.respaced((edge, edge, edge))
    path = root / f"{key}.npz"
    if session.hard_case != "no file" and not path.exists():
        painted = _downwards(paint_study(study, grid, volume.kernel, volume.noise_seed))
        affine = grid.affine()
        affine[:3, 3] += affine[:3, 2] * (grid.shape[0] - 1)
        affine[:3, 2] *= -1
        write_masks(root, f"{key}.nii.gz", painted, affine)
        hu = painted.int16(-_CLIP_HU, _CLIP_HU)
        write_npz(path, share=0.6 if session.hard_case == "corrupt file" else 1.0, ct=hu)
    truth = {"split": split, **truth_of(study, [path.name])}
    patient = f"mrn{session.split[0]}{session.patient:05d}"
    return _Written(session, split, key, patient, _columns(study), truth)


def _name(session: Session) -> tuple[str, str]:
    """Return the table and the key of a session: every visit is a volume of its own."""
    number = session.patient * 10 + "abc".index(session.letter)
    if session.split == "valid":
        return "test", f"tst{number:05d}"
    split = "valid" if session.patient % _VALID_EVERY == 0 else "train"
    return split, f"{_PREFIX[split]}{number:05d}"


def _downwards(painted: PaintedVolume) -> PaintedVolume:
    return PaintedVolume(painted.hu[::-1], painted.organs[::-1], painted.findings[::-1])


def _columns(study: PhantomStudy) -> frozenset[str]:
    return frozenset(c for finding in study.findings for c in positive_columns(finding))


def _row(entry: _Written) -> Row | None:
    if entry.session.hard_case == "no row":
        return None
    return {"NoteAcc_DEID": entry.key} | {c: float(c in entry.columns) for c in COLUMNS}
