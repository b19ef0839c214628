"""Your own scans: a folder and a CSV table that says what is in it."""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from medvlp.data.annotation_file import AnnotationFile
from medvlp.data.folder_cells import read_spacing, stays_inside
from medvlp.data.readers.registry import Irregular
from medvlp.data.records import SPLITS, ScanRecord, Skip, StudyRecord, StudySource
from medvlp.data.scan import check_orientation
from medvlp.data.tables import is_empty, nearest, read_table

Row = dict[str, str]

MODALITIES = (
    *("CT", "MR", "PT", "NM"),  # volumes
    *("CR", "DX", "MG", "RG", "XA", "US", "OP", "SM", "ES", "XC", "OT"),  # 2D
)
_SPLIT_NAMES = {name: name for name in SPLITS} | {"valid": "val", "validation": "val"}
COMPANIONS = ("anatomy_mask", "lesion_mask", "pet")
_OPTIONAL = ("patient_id", "split", "sex", "age", "modality", "spacing_mm", "orientation")
_ALIKE = 0.8  # of the letters, for a column that nobody asked for to be taken for a slip


class Folder(StudySource):
    """Scans of any readable format, named by a table; geometry and HU rule come from each header.

    Columns: `study_id`; `path` of a file or of a DICOM folder, relative to `root`, several scans
    of a study parted by ";" or in several rows; optional `patient_id` (else the study is its own
    patient), `split` (train, val, test), `sex`, `age`; of all scans of a row `modality` (DICOM
    code), `spacing_mm` ("3 1 1": slices, rows, columns) and `orientation` (letters along the same
    axes) where the headers do not say or are not to be trusted; `anatomy_mask`, `lesion_mask` and
    `pet`, paths like `path`, one for each scan of the row; text and label columns as told.

    Args:
        table: The CSV file.
        root: Paths are relative to it and may not leave it.
        name: Names the cache folder.
        text_columns: Section name to column, e.g. {"findings": "Findings"}.
        label_columns: Cells 1, 0, or empty for unknown.
        split: Of rows without one.
        orientation: Letters of the stored arrays (d, h, w), if headers are not to be trusted; of
            rows without one.
        modality: DICOM code of rows without one.
        irregular: "refuse" DICOM series that are tilted or unevenly spaced, or "correct" them.
        annotations: JSON file with report strings and scans of the training studies, in place of
            those of the table, see `AnnotationFile`.
    """

    def __init__(
        self,
        table: str,
        root: str,
        *,
        name: str = "folder",
        text_columns: Mapping[str, str] | None = None,
        label_columns: Sequence[str] = (),
        split: str = "test",
        orientation: str | None = None,
        modality: str = "CT",
        irregular: Irregular = "refuse",
        annotations: str | None = None,
    ) -> None:
        if not name.replace("_", "").replace("-", "").isalnum():
            raise ValueError(f"name is {name!r}, expected letters, digits, _ and - only")
        if orientation is not None:
            check_orientation(orientation)
        self.name = name
        self.table, self.root = Path(table), Path(root)
        self.text_columns = dict(text_columns or {})
        self.label_names = tuple(label_columns)
        self.split = _split(split)
        self.orientation, self.modality = orientation, _modality(modality)
        self.irregular: Irregular = irregular
        self.annotations = AnnotationFile(annotations)
        self.skips: list[Skip] = []

    def describe(self) -> dict[str, Any]:
        """State where table and scans lie."""
        return {
            "name": self.name,
            "table": str(self.table.resolve()),
            "root": str(self.root.resolve()),
            "texts": self.text_columns,
            "label_names": list(self.label_names),
            "orientation": self.orientation,
            "modality": self.modality,
            "irregular": self.irregular,
            **self.annotations.describe(),
        }

    def studies(self) -> Iterator[StudyRecord]:
        """Yield the studies in the order of the table."""
        self.skips.clear()
        if not self.root.is_dir():
            raise FileNotFoundError(f"{self.root} is not a folder; set root to that of your scans")
        yield from self.annotations.apply(self._table_studies(), self.skips)

    def _table_studies(self) -> Iterator[StudyRecord]:
        told = [*self.text_columns.values(), *self.label_names]
        table = read_table(self.table, ["study_id", "path", *told])
        self._report_slips(table[0].keys() - {"study_id", "path", *told, *_OPTIONAL, *COMPANIONS})
        grouped: dict[str, list[Row]] = {}
        for row in table:
            grouped.setdefault(row["study_id"].strip(), []).append(row)
        for study_id, rows in grouped.items():
            if not study_id:
                self.skips.append(Skip(str(self.table), f"{len(rows)} rows without a study_id"))
                continue
            scans = [scan for row in rows for scan in self._scans(study_id, row)]
            unique = {scan.scan_id: scan for scan in reversed(scans)}  # the first row counts
            if unique:
                yield self._study(study_id, rows, list(reversed(unique.values())))
            else:
                self.skips.append(Skip(study_id, "a study without a volume"))

    def _report_slips(self, columns: set[str]) -> None:
        known = (*_OPTIONAL, *COMPANIONS)
        for column in sorted(columns):
            alike = difflib.get_close_matches(column.lower(), known, n=1, cutoff=_ALIKE)
            if alike:
                reason = f"the column is not read; did you mean {alike[0]!r}?"
                self.skips.append(Skip(f"column {column!r}", reason))

    def _study(self, study_id: str, rows: list[Row], scans: list[ScanRecord]) -> StudyRecord:
        row = rows[0]
        self._report_contradictions(study_id, rows)
        texts = {
            section: row[column].strip()
            for section, column in self.text_columns.items()
            if not is_empty(row[column])
        }
        if self.text_columns and not texts:
            reason = "the report is empty: not for training, kept for evaluation"
            self.skips.append(Skip(study_id, reason))
        metadata = {key: row[key].strip() for key in ("sex", "age") if not is_empty(row.get(key))}
        split = row.get("split", "")
        return StudyRecord(
            study_id=study_id,
            patient_id=row.get("patient_id", "").strip() or study_id,
            split=self.split if is_empty(split) else _split(split),
            scans=tuple(scans),
            texts=texts,
            labels={name: self._label(study_id, name, row[name]) for name in self.label_names},
            metadata=metadata,
        )

    def _report_contradictions(self, study_id: str, rows: list[Row]) -> None:
        shared = ("patient_id", "split", "sex", "age", *self.text_columns.values())
        for column in (*shared, *self.label_names):
            if len({row.get(column, "").strip() for row in rows}) > 1:
                reason = f"its rows disagree on {column!r}; the first row counts"
                self.skips.append(Skip(study_id, reason))

    def _scans(self, study_id: str, row: Row) -> list[ScanRecord]:
        names = _parts(row["path"])
        masks = {field: _parts(row.get(field, "")) for field in COMPANIONS}
        for field, paths in masks.items():
            if paths and len(paths) != len(names):
                reason = f"{len(paths)} paths in {field!r} for {len(names)} scans"
                self.skips.append(Skip(study_id, f"{reason}: none is used"))
                masks[field] = []
        try:
            geometry = self._geometry(row)
        except ValueError as error:
            self.skips += [Skip(name, f"{study_id}: {error}; left out") for name in names]
            return []
        scans: list[ScanRecord] = []
        for number, name in enumerate(names):
            path = self._existing(study_id, name)
            beside = {
                field: mask
                for field, paths in masks.items()
                if paths and (mask := self._existing(study_id, paths[number])) is not None
            }
            if path is not None:
                scan_id = f"{study_id}/{name}"
                scans.append(ScanRecord(scan_id, path, companions=beside, **geometry))
        return scans

    def _geometry(self, row: Row) -> dict[str, Any]:
        modality, letters = row.get("modality", ""), row.get("orientation", "")
        orientation = self.orientation if is_empty(letters) else letters.strip().upper()
        if orientation is not None:
            check_orientation(orientation)
        return {
            "modality": self.modality if is_empty(modality) else _modality(modality),
            "spacing_mm": read_spacing(row.get("spacing_mm", "")),
            "orientation": orientation,
            "irregular": self.irregular,
        }

    def _existing(self, study_id: str, name: str) -> Path | None:
        path = self.root / name
        try:
            if not stays_inside(self.root, name):
                reason = f"the path leads out of {self.root}"
            elif not path.exists():
                reason = f"listed for {study_id}, but not there"
            elif path.is_dir() and next(path.iterdir(), None) is None:
                reason = f"listed for {study_id}, but an empty folder"
            else:
                return path
        except (OSError, RuntimeError) as error:  # a link to itself, a name that is too long
            reason = f"listed for {study_id}, but the path cannot be followed: {error}"
        self.skips.append(Skip(name, reason))
        return None

    def _label(self, study_id: str, name: str, cell: str) -> int:
        if is_empty(cell):
            return -1
        values = {"0": 0, "1": 1, "-1": -1, "0.0": 0, "1.0": 1, "-1.0": -1}
        if cell.strip() not in values:
            reason = f"label {name!r} is {cell.strip()!r}, expected 0, 1 or empty: unknown"
            self.skips.append(Skip(study_id, reason))
        return values.get(cell.strip(), -1)


def _parts(cell: str) -> list[str]:
    return [name.strip() for name in cell.split(";") if name.strip()]


def _split(name: str) -> str:
    split = _SPLIT_NAMES.get(name.strip().lower())
    if split is None:
        advice = nearest(name, _SPLIT_NAMES)
        raise ValueError(f"split is {name!r}, expected one of {', '.join(_SPLIT_NAMES)}{advice}")
    return split


def _modality(name: str) -> str:
    code = name.strip().upper()
    if code not in MODALITIES:
        advice = nearest(code, MODALITIES)
        raise ValueError(f"modality is {name!r}, expected one of {', '.join(MODALITIES)}{advice}")
    return code
