"""MR-RATE: 98,334 brain and spine MRI studies with reports and 37 labels (CC BY-NC-SA 4.0).

Layout as downloaded and unzipped from huggingface.co/datasets/Forithmus/MR-RATE (access on
request, native space):

    splits.csv                            batch_id, patient_uid, study_uid, split
    metadata/batchNN_metadata.csv         a row per series: patient_uid, study_uid, series_id, ...
    reports/batchNN_reports.csv           a row per study: report, clinical_information, technique,
                                          findings, impression
    pathology_labels/mrrate_labels.csv    study_uid and 37 columns of 0 and 1
    mri/batchNN/<study_uid>/img/<study_uid>_<series_id>.nii.gz    (seg/ beside img/: masks)

A series is named {t1w,t2w,flair,swi,mra}-raw-{axi,sag,cor,obl}, with -2, -3 ... for repetitions.
Learnt from the data set guide and the label lists of github.com/forithmus/MR-RATE. Not verified:
the spelling of the splits beyond the guide's words (train, val or validation, test), and the
further columns of the metadata tables. Spine studies are among them, and the tables do not say
which. The co-registered and atlas repositories are not read.
"""

import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from medvlp.data.annotation_file import AnnotationFile
from medvlp.data.choices import check_choice
from medvlp.data.records import SPLITS, ScanRecord, Skip, StudyRecord, StudySource
from medvlp.data.tables import is_empty, read_table

Row = dict[str, str]

LABEL_NAMES = (
    "Cerebral infarction",
    "Cerebral hemorrhage",
    "Metastatic malignant neoplasm to brain",
    "Intracranial meningioma",
    "Demyelinating disease of central nervous system",
    "Herniation of nucleus pulposus",
    "Spinal cord compression",
    "Lacunar infarct",
    "Silent micro-hemorrhage of brain",
    "Cavernous hemangioma",
    "Subdural intracranial hemorrhage",
    "Gliosis",
    "Cerebral atrophy",
    "Encephalomalacia",
    "Arachnoid cyst",
    "Empty sella syndrome",
    "Intracranial aneurysm",
    "Chiari malformation",
    "Schwannoma",
    "Cyst of pineal gland",
    "Hemangioma of vertebral column",
    "Rathke's pouch cyst",
    "Cerebral edema",
    "Spinal stenosis",
    "Mastoiditis",
    "Chronic mastoiditis",
    "Ventriculomegaly",
    "Cerebellar degeneration",
    "Mega cisterna magna",
    "Structure of cave of septum pellucidum",
    "Hyperostosis of skull",
    "Watershed infarct",
    "Choroid plexus cyst",
    "Foraminal Spinal Stenosis",
    "Lipoma of brain",
    "Glioma",
    "Pituitary adenoma",
)
SEQUENCES = ("T1w", "T2w", "FLAIR", "SWI", "MRA")
_SPLIT = {"train": "train", "val": "val", "validation": "val", "valid": "val", "test": "test"}
_SECTIONS = ("report", "clinical_information", "technique", "findings", "impression")
_METADATA_COLUMNS = (
    "patient_uid",
    "study_uid",
    "series_id",
    "classified_modality",
    "acquisition_plane",
)
_SERIES_NUMBER = re.compile(r"\d+")


class MRRate(StudySource):
    """MR-RATE in native space; a study is what one report describes, its scans are the series.

    Scans stand in the order of acquisition (SeriesNumber). Their ids end in the series id, which
    names sequence and plane; `metadata["sequences"]` of a study holds the same as JSON, scan id to
    "FLAIR AXIAL".

    Args:
        root: The repository's folder.
        splits: Which published splits to read: "train", "val", "test".
        sequences: Which kinds of series to read, a choice of `SEQUENCES`.
        label_names: Columns of the label table, in the order of a batch.
        annotations: JSON file with report strings and scans of the training studies, in place of
            those of the tables, see `AnnotationFile`.
    """

    name = "mr_rate"

    def __init__(
        self,
        root: str,
        *,
        splits: Sequence[str] = ("train", "val", "test"),
        sequences: Sequence[str] = SEQUENCES,
        label_names: Sequence[str] = LABEL_NAMES,
        annotations: str | None = None,
    ) -> None:
        check_choice("splits", splits, SPLITS)
        check_choice("sequences", sequences, SEQUENCES)
        self.root = Path(root)
        self.splits, self.sequences = tuple(splits), tuple(sequences)
        self.label_names = tuple(label_names)
        self.annotations = AnnotationFile(annotations)
        self.skips: list[Skip] = []

    def describe(self) -> dict[str, Any]:
        """State where the data set lies and which part of it is read."""
        return {
            "name": self.name,
            "root": str(self.root.resolve()),
            "splits": list(self.splits),
            "sequences": list(self.sequences),
            "label_names": list(self.label_names),
            **self.annotations.describe(),
        }

    def studies(self) -> Iterator[StudyRecord]:
        """Yield the studies of the chosen splits, batch by batch as the tables have them."""
        self.skips.clear()
        yield from self.annotations.apply(self._table_studies(), self.skips)

    def _table_studies(self) -> Iterator[StudyRecord]:
        folders = self._study_folders()
        splits = self._by_study(self.root / "splits.csv", ("patient_uid", "study_uid", "split"))
        labels = self._by_study(
            self.root / "pathology_labels" / "mrrate_labels.csv", ("study_uid", *self.label_names)
        )
        reports: dict[str, Row] = {}
        for path in self._tables("reports"):
            reports |= self._by_study(path, ("study_uid", "findings", "impression"))
        listed: set[str] = set()
        for path in self._tables("metadata"):
            for study_id, rows in self._series(path).items():
                listed.add(study_id)
                split = self._split(study_id, splits)
                if split not in self.splits:
                    continue
                scans = self._scans(study_id, rows, folders)
                if scans:
                    texts = self._texts(study_id, reports)
                    study_labels = self._labels(study_id, labels)
                    yield _study(split, rows, scans, texts, study_labels)
        for study_id in sorted(set(folders) - listed):
            self.skips.append(Skip(study_id, "a folder of volumes without a row in the metadata"))

    def _study_folders(self) -> dict[str, Path]:
        """Find mri/<batch>/<study> by listing: no path is ever built from a table."""
        folder = self.root / "mri"
        if not folder.is_dir():
            raise FileNotFoundError(
                f"no MR-RATE under {self.root}: expected splits.csv, metadata/, reports/, "
                "pathology_labels/ and mri/batchNN/<study_uid>/img. Request access at "
                "huggingface.co/datasets/Forithmus/MR-RATE (CC BY-NC-SA 4.0), or write a small "
                "twin with: python -m medvlp.phantom mr_rate DIR"
            )
        folders: dict[str, Path] = {}
        zipped = 0
        for batch in sorted(entry.path for entry in os.scandir(folder) if entry.is_dir()):
            for entry in os.scandir(batch):
                zipped += entry.name.endswith(".zip")
                if entry.is_dir():
                    folders[entry.name] = Path(entry.path)
        if zipped and not folders:
            raise FileNotFoundError(
                f"the {zipped} studies under {folder} are still zipped: unpack each where it lies"
            )
        if zipped:
            self.skips.append(Skip(str(folder), f"{zipped} zip files: only folders are read"))
        return folders

    def _tables(self, kind: str) -> list[Path]:
        paths = sorted((self.root / kind).glob(f"batch*_{kind}.csv"))
        if not paths:
            raise FileNotFoundError(f"no batch*_{kind}.csv in {self.root / kind}")
        return paths

    def _by_study(self, path: Path, columns: Sequence[str]) -> dict[str, Row]:
        rows: dict[str, Row] = {}
        for row in read_table(path, columns):
            if row["study_uid"].strip() in rows:
                reason = f"{path.name}: listed more than once; the first row counts"
                self.skips.append(Skip(row["study_uid"].strip(), reason))
            rows.setdefault(row["study_uid"].strip(), row)
        return rows

    def _series(self, path: Path) -> dict[str, list[Row]]:
        """Group the rows of a metadata table by study, in the order of acquisition."""
        studies: dict[str, list[Row]] = {}
        for row in read_table(path, _METADATA_COLUMNS):
            studies.setdefault(row["study_uid"].strip(), []).append(row)
        for rows in studies.values():
            rows.sort(key=_series_number)
        return studies

    def _split(self, study_id: str, splits: Mapping[str, Row]) -> str:
        name = splits[study_id]["split"].strip().lower() if study_id in splits else ""
        if name not in _SPLIT:
            reason = f"its split is {name!r}" if name else "it has no row in splits.csv"
            self.skips.append(Skip(study_id, f"{reason}: left out"))
        return _SPLIT.get(name, "")

    def _scans(
        self, study_id: str, rows: list[Row], folders: Mapping[str, Path]
    ) -> list[tuple[ScanRecord, Row]]:
        if study_id not in folders:
            self.skips.append(Skip(study_id, "listed in the tables, but its folder is not there"))
            return []
        images = folders[study_id] / "img"
        files = {p.name: p for p in images.glob("*.nii.gz")} if images.is_dir() else {}
        other: Counter[str] = Counter()
        scans: dict[str, tuple[ScanRecord, Row]] = {}
        for row in rows:
            scan_id = f"{study_id}_{row['series_id'].strip()}"
            sequence = row["classified_modality"].strip()
            if sequence not in self.sequences:
                other[sequence] += 1
            elif f"{scan_id}.nii.gz" not in files:
                self.skips.append(Skip(scan_id, "listed in the metadata, but not there"))
            else:
                path = files[f"{scan_id}.nii.gz"]
                scans.setdefault(scan_id, (ScanRecord(scan_id, path, modality="MR"), row))
        for sequence, count in other.items():
            self.skips.append(Skip(study_id, f"{count} series of the kind {sequence!r}: not asked"))
        if not scans:
            self.skips.append(Skip(study_id, "a study without a volume"))
        return list(scans.values())

    def _texts(self, study_id: str, reports: Mapping[str, Row]) -> dict[str, str]:
        row = reports.get(study_id, {})
        texts = {name: row[name].strip() for name in _SECTIONS if not is_empty(row.get(name))}
        if not texts:
            reason = "without a report: not for training, kept for evaluation"
            self.skips.append(Skip(study_id, reason))
        return texts

    def _labels(self, study_id: str, labels: Mapping[str, Row]) -> dict[str, int]:
        if study_id not in labels:
            self.skips.append(Skip(study_id, "no row in the label table: all labels unknown"))
            return dict.fromkeys(self.label_names, -1)
        known = {"0": 0, "1": 1, "0.0": 0, "1.0": 1}
        return {name: known.get(labels[study_id][name].strip(), -1) for name in self.label_names}


def _study(
    split: str,
    rows: list[Row],
    scans: list[tuple[ScanRecord, Row]],
    texts: dict[str, str],
    labels: dict[str, int],
) -> StudyRecord:
    kinds = {
        scan.scan_id: f"{row['classified_modality'].strip()} {row['acquisition_plane'].strip()}"
        for scan, row in scans
    }
    columns = {"sex": "Patient'sSex", "age": "Patient'sAge", "manufacturer": "Manufacturer"}
    values = {name: rows[0].get(column, "").strip() for name, column in columns.items()}
    return StudyRecord(
        study_id=rows[0]["study_uid"].strip(),
        patient_id=rows[0]["patient_uid"].strip(),
        split=split,
        scans=tuple(scan for scan, _ in scans),
        texts=texts,
        labels=labels,
        metadata={name: value for name, value in values.items() if value}
        | {"sequences": json.dumps(kinds)},
    )


def _series_number(row: Row) -> tuple[int, str]:
    number = _SERIES_NUMBER.search(row.get("SeriesNumber", ""))
    return (int(number[0]) if number else 2**31, row["series_id"])
