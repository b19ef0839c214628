"""CT-RATE: 50,188 chest CTs with reports and 18 labels (Hamamci et al., CC BY-NC-SA 4.0).

Access is requested at huggingface.co/datasets/ibrahimhamamci/CT-RATE. Layout and columns are those
of the published tables; the tree of masks is that of the fVLM repository.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

from medvlp.data.annotation_file import AnnotationFile
from medvlp.data.choices import check_choice
from medvlp.data.ct_rate_tree import VOLUME_NAME, dataset_folder, volume_files
from medvlp.data.records import ScanRecord, Skip, StudyRecord, StudySource
from medvlp.data.scan import Rescale, check_orientation
from medvlp.data.tables import is_empty, read_table
from medvlp.types import Spacing3D

Row = dict[str, str]

LABEL_NAMES = (
    "Medical material",
    "Arterial wall calcification",
    "Cardiomegaly",
    "Pericardial effusion",
    "Coronary artery wall calcification",
    "Hiatal hernia",
    "Lymphadenopathy",
    "Emphysema",
    "Atelectasis",
    "Lung nodule",
    "Lung opacity",
    "Pulmonary fibrotic sequela",
    "Pleural effusion",
    "Mosaic attenuation pattern",
    "Peribronchial thickening",
    "Consolidation",
    "Bronchiectasis",
    "Interlobular septal thickening",
)
EXCLUDED = ("train_1267_a_4", "train_11755_a_3", "train_11755_a_4")  # no spacing, or not a chest
_METADATA_COLUMNS = ("VolumeName", "RescaleSlope", "RescaleIntercept", "XYSpacing", "ZSpacing")
_REPORT_COLUMNS = ("VolumeName", "Findings_EN", "Impressions_EN")
_FILE_PREFIX = {"train": "train", "valid": "validation"}  # as the published tables are named
_SPLIT = {"train": "train", "valid": "test"}  # the published "valid" is held out for testing
_FOLDERS = {"ct_rate": "{split}", "ct_rate_fixed": "{split}_fixed"}  # of v1 and of v2


class CTRate(StudySource):
    """CT-RATE v1: raw numbers whose slope, intercept and spacing stand in the metadata table.

    A study is a session (one report), its scans are the reconstructions. The published "valid"
    split becomes "test"; a validation split is cut from "train" by the DataModule.

    Args:
        root: The repository's folder, which holds `dataset/`, or `dataset/` itself.
        splits: Which published splits to read: "train", "valid".
        orientation: What the stored array (slices, rows, columns) is, whatever the header says:
            published preprocessing takes the storage order as it is. None trusts each header.
        label_names: Columns of the label tables, in the order of a batch.
        excluded: Volumes (without suffix) to leave out; the default is the published list.
        anatomy_masks: Where organ masks lie under the dataset folder, in the same tree and of the
            same names as the volumes, such as "{split}_mask" or "merged_{split}_masks" of fVLM's
            layout; they become the companion "anatomy_mask".
        annotations: JSON file with report strings and scans of the training studies, in place of
            those of the tables, see `AnnotationFile`.
    """

    name = "ct_rate"
    version = "ct_rate"
    metadata_columns = _METADATA_COLUMNS

    def __init__(
        self,
        root: str,
        *,
        splits: Sequence[str] = ("train", "valid"),
        orientation: str | None = "SPL",
        label_names: Sequence[str] = LABEL_NAMES,
        excluded: Sequence[str] = EXCLUDED,
        anatomy_masks: str | None = None,
        annotations: str | None = None,
    ) -> None:
        check_choice("splits", splits, _SPLIT)
        if orientation is not None:
            check_orientation(orientation)
        self.root = Path(root)
        self.splits = tuple(splits)
        self.orientation = orientation
        self.label_names = tuple(label_names)
        self.excluded = frozenset(excluded)
        self.anatomy_masks = anatomy_masks
        self.annotations = AnnotationFile(annotations)
        self.skips: list[Skip] = []

    def describe(self) -> dict[str, Any]:
        """State where the data set lies and which part of it is read."""
        return {
            "name": self.name,
            "root": str(self.root.resolve()),
            "splits": list(self.splits),
            "orientation": self.orientation,
            "label_names": list(self.label_names),
            "excluded": sorted(self.excluded),
            "anatomy_masks": self.anatomy_masks,
            **self.annotations.describe(),
        }

    def studies(self) -> Iterator[StudyRecord]:
        """Yield the sessions of the chosen splits in the order of the metadata table."""
        self.skips.clear()
        dataset = self._dataset_folder()
        tables = (self._split_studies(dataset, split) for split in self.splits)
        yield from self.annotations.apply(chain.from_iterable(tables), self.skips)

    def _dataset_folder(self) -> Path:
        if folder := dataset_folder(self.root, "metadata"):
            return folder
        raise FileNotFoundError(
            f"no CT-RATE under {self.root}: expected dataset/{{train,valid,metadata,"
            "radiology_text_reports,multi_abnormality_labels}. Request access at "
            "huggingface.co/datasets/ibrahimhamamci/CT-RATE (CC BY-NC-SA 4.0), or write a small "
            f"twin with: python -m medvlp.phantom {self.version} DIR"
        )

    def _split_studies(self, dataset: Path, split: str) -> Iterator[StudyRecord]:
        prefix, out = _FILE_PREFIX[split], self._left_out(dataset, split)
        folder = dataset / "radiology_text_reports"
        reports = self._by_volume(folder / f"{prefix}_reports.csv", _REPORT_COLUMNS, out)
        folder = dataset / "multi_abnormality_labels"
        labels = self._by_volume(
            folder / f"{split}_predicted_labels.csv", ("VolumeName", *self.label_names), out
        )
        metadata = self._by_volume(
            dataset / "metadata" / f"{prefix}_metadata.csv", self.metadata_columns, out
        )
        files = {
            name: path
            for name, path in self._volumes(dataset, split).items()
            if name.split(".")[0] not in out
        }
        masks = self._masks(dataset, split)
        self._account(files, metadata, reports)
        for session, volumes in _sessions(metadata).items():
            scans = [self._scan(name, metadata[name], files) for name in volumes]
            present = tuple(self._with_mask(scan, masks) for scan in scans if scan is not None)
            if present:
                rows = [reports[name] for name in volumes if name in reports]
                yield StudyRecord(
                    study_id=session,
                    patient_id=session.rpartition("_")[0],
                    split=_SPLIT[split],
                    scans=present,
                    texts=self._texts(session, rows),
                    labels=self._labels(session, [labels[n] for n in volumes if n in labels]),
                    metadata=_subgroups(metadata[volumes[0]]),
                )

    def _left_out(self, dataset: Path, split: str) -> frozenset[str]:
        """Name the volumes (without suffix) that are not wanted."""
        return self.excluded

    def _volumes(self, dataset: Path, split: str) -> dict[str, Path]:
        folder = dataset / _FOLDERS[self.version].format(split=split)
        for version, other in _FOLDERS.items():
            if not folder.is_dir() and (dataset / other.format(split=split)).is_dir():
                raise FileNotFoundError(
                    f"{folder} is not there, but {other.format(split=split)}/ is: read these files "
                    f"with data={version}; v1 has raw numbers, the 'fixed' files of v2 have HU"
                )
        return volume_files(folder)

    def _masks(self, dataset: Path, split: str) -> dict[str, Path] | None:
        if self.anatomy_masks is None:
            return None
        return volume_files(dataset / self.anatomy_masks.format(split=split))

    def _with_mask(self, scan: ScanRecord, masks: dict[str, Path] | None) -> ScanRecord:
        if masks is None:
            return scan
        if scan.path.name not in masks:
            self.skips.append(Skip(scan.path.name, "no organ mask: kept, for recipes without one"))
            return scan
        return replace(scan, companions={"anatomy_mask": masks[scan.path.name]})

    def _by_volume(
        self, path: Path, columns: Sequence[str], left_out: frozenset[str]
    ) -> dict[str, Row]:
        rows: dict[str, Row] = {}
        broken: list[str] = []
        table = read_table(path, columns, broken=broken)
        self.skips += [Skip(str(path), f"{problem}; row ignored") for problem in broken]
        for row in table:
            name = row["VolumeName"].strip()
            if not VOLUME_NAME.fullmatch(name):
                reason = "not a CT-RATE volume name (like train_1_a_1.nii.gz); row ignored"
                self.skips.append(Skip(name, f"{path.name}: {reason}"))
            elif name in rows:
                reason = "the volume is listed more than once; the first row counts"
                self.skips.append(Skip(name, f"{path.name}: {reason}"))
            elif name.split(".")[0] not in left_out:
                rows[name] = row
        return rows

    def _account(
        self, files: dict[str, Path], metadata: dict[str, Row], reports: dict[str, Row]
    ) -> None:
        for name in files:
            if name not in metadata:
                self.skips.append(Skip(name, "the volume has no row in the metadata table"))
        for name in reports:
            if name not in metadata and name not in files:
                self.skips.append(Skip(name, "a report without a volume"))

    def _scan(self, name: str, row: Row, files: dict[str, Path]) -> ScanRecord | None:
        if name not in files:
            self.skips.append(Skip(name, "listed in the tables, but the file is not there"))
            return None
        try:
            spacing_mm = _spacing_mm(row)
            rescale = Rescale(float(row["RescaleSlope"]), float(row["RescaleIntercept"]))
        except ValueError as error:
            self.skips.append(Skip(name, f"metadata table: {error}"))
            return None
        return ScanRecord(
            scan_id=name.split(".")[0],
            path=files[name],
            spacing_mm=spacing_mm,
            rescale=rescale,
            orientation=self.orientation,
        )

    def _texts(self, session: str, rows: list[Row]) -> dict[str, str]:
        columns = {"findings": "Findings_EN", "impression": "Impressions_EN"}
        texts: dict[str, str] = {}
        for name, column in columns.items():
            # The first row of a session gives its report, as published.
            if rows and not is_empty(rows[0][column]):
                texts[name] = rows[0][column].strip()
        if not texts:
            what = "the report is empty" if rows else "a volume without a report"
            self.skips.append(Skip(session, f"{what}: not for training, kept for evaluation"))
        return texts

    def _labels(self, session: str, rows: list[Row]) -> dict[str, int]:
        if not rows:
            self.skips.append(Skip(session, "no row in the label table: all labels unknown"))
        labels: dict[str, int] = {}
        for name in self.label_names:
            values = {_label(row[name]) for row in rows}
            labels[name] = values.pop() if len(values) == 1 else -1
            if len(values) > 0 and labels[name] == -1:
                reason = f"its volumes disagree on the label {name!r}: counted as unknown"
                self.skips.append(Skip(session, reason))
        return labels


def _sessions(metadata: dict[str, Row]) -> dict[str, list[str]]:
    sessions: dict[str, list[str]] = {}
    for name in metadata:
        sessions.setdefault(name.split(".")[0].rpartition("_")[0], []).append(name)
    return sessions


def _spacing_mm(row: Row) -> Spacing3D:
    try:
        # the text "[x, y]", and ZSpacing; storage order is (z, y, x)
        x, y = (float(value) for value in json.loads(row["XYSpacing"]))
        spacing_mm = (float(row["ZSpacing"]), y, x)
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"no usable spacing (XYSpacing={row['XYSpacing']!r}, ZSpacing={row['ZSpacing']!r})"
        ) from error
    if not all(0.01 < value < 50 for value in spacing_mm):
        raise ValueError(f"spacing {spacing_mm} mm is out of the range 0.01 to 50")
    return spacing_mm


def _label(value: str) -> int:
    text = value.strip()
    return int(float(text)) if text in {"0", "1", "0.0", "1.0"} else -1


def _subgroups(row: Row) -> dict[str, str]:
    columns = {"sex": "PatientSex", "age": "PatientAge", "manufacturer": "Manufacturer"}
    values = {name: row.get(column, "").strip() for name, column in columns.items()}
    age = re.fullmatch(r"0*(\d+)Y?", values["age"])
    values["age"] = age[1] if age else ""
    return {name: value for name, value in values.items() if value}
