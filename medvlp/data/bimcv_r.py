"""BIMCV-R: 8,069 CTs of 5,340 patients with reports, Spanish and translated (Chen et al., 2024).

The data are at huggingface.co/datasets/cyd0806/BIMCV-R; they come from BIMCV-COVID19+, whose terms
apply too (bimcv.cipf.es). Unpacked, volumes lie in `CT<k>/ct/*.nii.gz`, 500 to a folder, named
sub-<patient>_ses-<session>_..._bp-chest_ct.nii.gz, and tables in `meta/`. The table
`curated_ct_report_path_En.csv` has the columns PatientID, ReportID (the session), Report (Spanish,
lower case, sentences parted by " . "), Report_en (a machine's translation), Labels (a Python list;
entries with leading blanks and empty ones), LabelsLocalizationsBySentence and others, and path: a
path on its authors' machine, of which the file name counts. Sources: the MedFinder and HSENet
repositories for the layout, and a published excerpt of the table (HAID repository) for the columns;
there the file stands in `ct_path` and `path` is its folder, and both are accepted here. Its licence
could not be checked.
"""

import ast
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from medvlp.data.records import ScanRecord, Skip, StudyRecord, StudySource
from medvlp.data.tables import is_empty, read_table

Row = dict[str, str]

LABEL_NAMES = (
    "ground glass pattern",
    "pneumonia",
    "COVID 19",
    "nodule",
    "adenopathy",
    "pleural effusion",
    "calcified densities",
    "consolidation",
    "laminar atelectasis",
    "cardiomegaly",
    "bronchiectasis",
    "emphysema",
    "hiatal hernia",
    "interstitial pattern",
    "pericardial effusion",
)
"""Findings that are frequent, or that CT-RATE has too, as the table spells them."""
_TABLE = "curated_ct_report_path_En.csv"
_COLUMNS = ("PatientID", "ReportID", "Report_en", "Labels", "path")
_SUFFIX = ".nii.gz"


class BIMCVR(StudySource):
    """BIMCV-R: HU and geometry from the headers, reports in English and in Spanish.

    A study is a session of a patient, its scans are the volumes that the table lists for it. A
    finding that the table does not name counts as absent.

    Args:
        root: Holds CT<k>/ct and meta.
        train_share: The first rows of the table are for training, as published, the others for
            testing. A patient on both sides goes where his first row is.
        label_names: Entries of the column Labels, in the order of a batch.
        table: Name of the table in `meta/`.
        orientation: Letters of the stored arrays; null trusts each header.
        spanish: Add the original report as the section "findings_es", beside "findings".
    """

    name = "bimcv_r"

    def __init__(
        self,
        root: str,
        *,
        train_share: float = 0.8,
        label_names: Sequence[str] = LABEL_NAMES,
        table: str = _TABLE,
        orientation: str | None = None,
        spanish: bool = False,
    ) -> None:
        if not 0 <= train_share <= 1:
            raise ValueError(f"train_share is {train_share}, expected a share from 0 to 1")
        self.root, self.table = Path(root), table
        self.train_share, self.orientation = train_share, orientation
        self.label_names, self.spanish = tuple(label_names), spanish
        self.skips: list[Skip] = []

    def describe(self) -> dict[str, Any]:
        """State where the data set lies and which part of it is read."""
        return {
            "name": self.name,
            "root": str(self.root.resolve()),
            "table": self.table,
            "train_share": self.train_share,
            "label_names": list(self.label_names),
            "orientation": self.orientation,
            "spanish": self.spanish,
        }

    def studies(self) -> Iterator[StudyRecord]:
        """Yield the sessions in the order of the table."""
        self.skips.clear()
        path = self.root / "meta" / self.table
        if not path.is_file():
            raise FileNotFoundError(
                f"no BIMCV-R under {self.root}: expected CT<k>/ct/*.nii.gz and meta/{self.table}. "
                "It is at huggingface.co/datasets/cyd0806/BIMCV-R (unpack every archive), or write "
                "a small twin with: python -m medvlp.phantom bimcv_r DIR"
            )
        broken: list[str] = []
        rows = read_table(path, _COLUMNS, broken=broken)
        self.skips += [Skip(str(path), f"{problem}; row ignored") for problem in broken]
        files = self._files()
        sessions = self._sessions(rows, files)
        splits = self._splits(rows)
        for (patient, session), members in sessions.items():
            yield StudyRecord(
                study_id=f"{patient}_{session}",
                patient_id=patient,
                split=splits[patient],
                scans=tuple(self._scan(name, files[name]) for name in members),
                texts=self._texts(f"{patient}_{session}", next(iter(members.values()))),
                labels=self._labels(f"{patient}_{session}", list(members.values())),
            )

    def _files(self) -> dict[str, Path]:
        """Find the volumes by listing: of the table's paths only the last part is looked up."""
        files: dict[str, Path] = {}
        for path in sorted(self.root.glob(f"CT*/ct/*{_SUFFIX}")):
            if path.name in files:
                reason = f"the name is there twice; {files[path.name].parent.parent.name} counts"
                self.skips.append(Skip(str(path), reason))
            elif path.is_file():
                files[path.name] = path
        return files

    def _sessions(
        self, rows: Sequence[Row], files: dict[str, Path]
    ) -> dict[tuple[str, str], dict[str, Row]]:
        sessions: dict[tuple[str, str], dict[str, Row]] = {}
        listed: set[str] = set()
        for row in rows:
            name = _file_name(row)
            if not name.endswith(_SUFFIX):
                self.skips.append(Skip(name, f"a row of {self.table} without a {_SUFFIX} file"))
            elif name in listed:
                reason = f"{self.table}: listed more than once; the first row counts"
                self.skips.append(Skip(name, reason))
            elif name not in files:
                self.skips.append(Skip(name, "listed in the table, but the file is not there"))
            else:
                key = (row["PatientID"].strip(), row["ReportID"].strip())
                sessions.setdefault(key, {})[name] = row
            listed.add(name)
        for name in sorted(files.keys() - listed):
            self.skips.append(Skip(name, "the volume has no row in the table"))
        return sessions

    def _splits(self, rows: Sequence[Row]) -> dict[str, str]:
        splits: dict[str, str] = {}
        moved = 0
        for number, row in enumerate(rows):
            split = "train" if number < int(len(rows) * self.train_share) else "test"
            moved += splits.setdefault(row["PatientID"].strip(), split) != split
        if moved:
            reason = (
                "rows of test moved to train, where their patient is: the published cut is by row"
            )
            self.skips.append(Skip(f"{moved} rows", reason))
        return splits

    def _scan(self, name: str, path: Path) -> ScanRecord:
        return ScanRecord(
            scan_id=name.removesuffix(_SUFFIX), path=path, orientation=self.orientation
        )

    def _texts(self, study_id: str, row: Row) -> dict[str, str]:
        columns = {"findings": "Report_en"} | ({"findings_es": "Report"} if self.spanish else {})
        texts = {
            section: row[column].strip()
            for section, column in columns.items()
            if not is_empty(row.get(column))
        }
        if "findings" not in texts:
            reason = "no report in English: not for training, kept for evaluation"
            self.skips.append(Skip(study_id, reason))
            return {}
        return texts

    def _labels(self, study_id: str, rows: list[Row]) -> dict[str, int]:
        stated = [_findings(row["Labels"]) for row in rows]
        if None in stated:
            reason = f"Labels is {rows[stated.index(None)]['Labels']!r}, not a list: all unknown"
            self.skips.append(Skip(study_id, reason))
            return dict.fromkeys(self.label_names, -1)
        found = {name for names in stated for name in names or ()}
        return {name: int(name in found) for name in self.label_names}


def _file_name(row: Row) -> str:
    path = row.get("ct_path", "").strip() or row["path"].strip()
    return path.replace("\\", "/").rpartition("/")[2]


def _findings(cell: str) -> set[str] | None:
    """Read a list as Python prints it.

    >>> sorted(_findings("['', 'nodule', ' pleural effusion']"))
    ['nodule', 'pleural effusion']
    """
    try:
        names = ast.literal_eval(cell)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    if not isinstance(names, list):
        return None
    return {str(name).strip() for name in names} - {""}
