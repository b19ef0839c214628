"""Your own scans: a folder and a CSV table that says what is in it."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from medvlp.data.records import SPLITS, ScanRecord, Skip, StudyRecord, StudySource
from medvlp.data.tables import is_empty, read_table

_SPLIT_NAMES = {name: name for name in SPLITS} | {"valid": "val", "validation": "val"}


class Folder(StudySource):
    """Scans of any readable format, named by a table; geometry and HU rule come from each header.

    Columns: `study_id`; `path`, relative to `root`, several scans of a study parted by ";" or in
    several rows; optional `patient_id` (else the study is its own patient), `split` (train, val,
    test), `sex`, `age`; text and label columns as told.

    Args:
        table: The CSV file.
        root: Paths are relative to it and may not leave it.
        name: Names the cache folder.
        text_columns: Section name to column, e.g. {"findings": "Findings"}.
        label_columns: Cells 1, 0, or empty for unknown.
        split: Of rows without one.
        orientation: Letters of the stored arrays (d, h, w), if headers are not to be trusted.
        modality: DICOM code.
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
    ) -> None:
        if not name.replace("_", "").replace("-", "").isalnum():
            raise ValueError(f"name is {name!r}, expected letters, digits, _ and - only")
        self.name = name
        self.table, self.root = Path(table), Path(root)
        self.text_columns = dict(text_columns or {})
        self.label_names = tuple(label_columns)
        self.split = _split(split)
        self.orientation, self.modality = orientation, modality
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
        }

    def studies(self) -> Iterator[StudyRecord]:
        """Yield the studies in the order of the table."""
        self.skips.clear()
        if not self.root.is_dir():
            raise FileNotFoundError(f"{self.root} is not a folder; set root to that of your scans")
        columns = ["study_id", "path", *self.text_columns.values(), *self.label_names]
        grouped: dict[str, list[dict[str, str]]] = {}
        for row in read_table(self.table, columns):
            grouped.setdefault(row["study_id"].strip(), []).append(row)
        for study_id, rows in grouped.items():
            scans = self._scans(study_id, rows)
            if not study_id:
                self.skips.append(Skip(str(self.table), f"{len(rows)} rows without a study_id"))
            elif scans:
                yield self._study(study_id, rows[0], scans)
            else:
                self.skips.append(Skip(study_id, "a study without a volume"))

    def _study(self, study_id: str, row: dict[str, str], scans: list[ScanRecord]) -> StudyRecord:
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

    def _scans(self, study_id: str, rows: list[dict[str, str]]) -> list[ScanRecord]:
        names = [name.strip() for row in rows for name in row["path"].split(";") if name.strip()]
        scans: list[ScanRecord] = []
        for name in dict.fromkeys(names):
            path = self.root / name
            if not _stays_inside(self.root, name):
                self.skips.append(Skip(name, f"the path leads out of {self.root}"))
            elif not path.exists():
                self.skips.append(Skip(name, f"listed for {study_id}, but not there"))
            else:
                scans.append(
                    ScanRecord(
                        scan_id=f"{study_id}/{name}",
                        path=path,
                        modality=self.modality,
                        orientation=self.orientation,
                    )
                )
        return scans

    def _label(self, study_id: str, name: str, cell: str) -> int:
        if is_empty(cell):
            return -1
        values = {"0": 0, "1": 1, "-1": -1, "0.0": 0, "1.0": 1, "-1.0": -1}
        if cell.strip() not in values:
            reason = f"label {name!r} is {cell.strip()!r}, expected 0, 1 or empty: unknown"
            self.skips.append(Skip(study_id, reason))
        return values.get(cell.strip(), -1)


def _split(name: str) -> str:
    split = _SPLIT_NAMES.get(name.strip().lower())
    if split is None:
        raise ValueError(f"split is {name!r}, expected one of {', '.join(_SPLIT_NAMES)}")
    return split


def _stays_inside(root: Path, name: str) -> bool:
    parts = PurePosixPath(name.replace("\\", "/"))
    if parts.is_absolute() or ".." in parts.parts or "\0" in name:
        return False
    return (root / name).resolve().is_relative_to(root.resolve())
