"""Rad-ChestCT: chest CTs with 84 abnormalities at 52 locations, without reports (Draelos et al.).

3,630 of 35,747 volumes are public (Draelos et al., Medical Image Analysis 2021); access is
requested at zenodo.org/records/6406114, under a Creative Commons licence for non-commercial use
without derivatives. One folder holds the volumes `<NoteAcc_DEID>.npz` (trn..., val..., tst...),
key "ct", int16 HU clipped to -1000..1000, 0.8 mm isotropic; the label tables
`img{train,valid,test}_Abnormality_and_Location_Labels.csv` have the key `NoteAcc_DEID` and one
column "abnormality*location" for each pair; `CT_Scan_Metadata_Complete_35747.csv` gives the
patient, `MRN_DEID`. Sources: the record's description, the authors' ct-net-models repository, and
public readers of the data set. The orientation follows from the columns of the authors' table of
lung extrema (sup_axis0min, ant_axis1min, rig_axis2min): slices downwards, rows to the back,
columns to the left. Other columns of the metadata table could not be checked and are not read.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from medvlp.data.choices import check_choice
from medvlp.data.records import SPLITS, ScanRecord, Skip, StudyRecord, StudySource
from medvlp.data.scan import check_orientation
from medvlp.data.tables import is_empty, nearest, stream_table
from medvlp.types import Spacing3D

CLASSES = {
    "Emphysema": "emphysema",
    "Atelectasis": "atelectasis",
    "Lung nodule": "nodule",
    "Lung opacity": "opacity",
    "Pulmonary fibrotic sequela": "fibrosis",
    "Pleural effusion": "pleural_effusion",
    "Peribronchial thickening": "bronchial_wall_thickening",
    "Consolidation": "consolidation",
    "Bronchiectasis": "bronchiectasis",
    "Interlobular septal thickening": "septal_thickening",
    "Cardiomegaly": "cardiomegaly",
    "Pericardial effusion": "pericardial_effusion",
    "Coronary artery wall calcification": "calcification",
    "Hiatal hernia": "hernia",
    "Arterial wall calcification": "calcification",
}
"""CT-RATE's names in HLIP's order, and the abnormality that stands for each: one for both kinds of
calcification."""
_KEY, _PATIENT = "NoteAcc_DEID", "MRN_DEID"
_LABEL_FILE = "img{split}_Abnormality_and_Location_Labels.csv"
_METADATA_FILE = "CT_Scan_Metadata_Complete_35747.csv"
_SPLIT = {"train": "train", "valid": "val", "test": "test"}
_FOLDERS = {"volumes": ("", "npz", "images"), "tables": ("", "labels", "tables")}
_SPACING_MM: dict[str, Spacing3D] = {
    ".npz": (0.8, 0.8, 0.8),  # raw
    ".pt": (3.0, 1.0, 1.0),  # as HLIP's script resamples
}


class RadChestCT(StudySource):
    """Rad-ChestCT, raw (.npz) or as HLIP's script leaves it (.pt, `<id>.pt` or `<id>/<id>.pt`).

    A label is the maximum over the locations of its abnormality.

    Args:
        root: Holds volumes (in it, in `npz/` or `images/`) and tables (in it, in `labels/` or
            `tables/`).
        splits: Which label tables to read: "train", "valid", "test".
        merge_into: One split for all of them. HLIP evaluates on all 3,630 volumes, hence "test";
            None keeps the published splits.
        orientation: Of the arrays, see the module. The published evaluation takes the storage
            order as it is, with slices downwards; `data.recipe.orientation=IPL` does the same.
        classes: Label name to the abnormality that stands for it.
    """

    name = "rad_chestct"

    def __init__(
        self,
        root: str,
        *,
        splits: Sequence[str] = ("train", "valid", "test"),
        merge_into: str | None = "test",
        orientation: str = "IPL",
        classes: Mapping[str, str] | None = None,
    ) -> None:
        check_choice("splits", splits, _SPLIT)
        if merge_into is not None and merge_into not in SPLITS:
            raise ValueError(f"merge_into is {merge_into!r}, expected one of {SPLITS} or null")
        check_orientation(orientation)
        self.root, self.splits = Path(root), tuple(splits)
        self.merge_into, self.orientation = merge_into, orientation
        self.classes = dict(classes or CLASSES)
        self.label_names = tuple(self.classes)
        self.spacing_mm = _SPACING_MM
        self.skips: list[Skip] = []

    def describe(self) -> dict[str, Any]:
        """State where the data set lies and which part of it is read."""
        return {
            "name": self.name,
            "root": str(self.root.resolve()),
            "splits": list(self.splits),
            "merge_into": self.merge_into,
            "orientation": self.orientation,
            "classes": self.classes,
        }

    def studies(self) -> Iterator[StudyRecord]:
        """Yield one study for each volume that has labels, in the order of the tables."""
        self.skips.clear()
        tables = {split: self._table(_LABEL_FILE.format(split=split)) for split in self.splits}
        found = {split: path for split, path in tables.items() if path is not None}
        if not found:
            raise FileNotFoundError(
                f"no Rad-ChestCT under {self.root}: expected {_LABEL_FILE.format(split='train')} "
                "and its siblings beside the .npz volumes. Request access at "
                "zenodo.org/records/6406114 (non-commercial), or write a small twin with: "
                "python -m medvlp.phantom rad_chestct DIR"
            )
        for split in sorted(tables.keys() - found.keys()):
            name = _LABEL_FILE.format(split=split)
            self.skips.append(Skip(name, "the table is not there: its split is left out"))
        files, patients = self._volumes(), self._patients()
        used: set[str] = set()
        for split, path in found.items():
            for key, labels in self._labels(path, used).items():
                used.add(key)
                if key in files:
                    yield self._study(key, split, files[key], labels, patients)
                else:
                    self.skips.append(Skip(key, "listed in the tables, but the file is not there"))
        for key in sorted(files.keys() - used):
            self.skips.append(Skip(key, "the volume has no row in the tables that are read"))

    def _study(
        self, key: str, split: str, path: Path, labels: dict[str, int], patients: dict[str, str]
    ) -> StudyRecord:
        scan = ScanRecord(
            scan_id=key,
            path=path,
            spacing_mm=self.spacing_mm[path.suffix],
            orientation=self.orientation,
        )
        return StudyRecord(
            study_id=key,
            patient_id=patients.get(key, key),
            split=self.merge_into or _SPLIT[split],
            scans=(scan,),
            labels=labels,
        )

    def _table(self, name: str) -> Path | None:
        paths = (self.root / folder / name for folder in _FOLDERS["tables"])
        return next((path for path in paths if path.is_file()), None)

    def _volumes(self) -> dict[str, Path]:
        """Find the volumes by listing; a raw one goes before a processed one of the same name."""
        files: dict[str, Path] = {}
        for suffix in self.spacing_mm:
            for folder in _FOLDERS["volumes"]:
                for pattern in (f"*{suffix}", f"*/*{suffix}"):
                    for path in sorted((self.root / folder).glob(pattern)):
                        is_own = pattern[0:2] != "*/" or path.parent.name == path.stem
                        if is_own and path.is_file():
                            files.setdefault(path.stem, path)
        return files

    def _patients(self) -> dict[str, str]:
        path = self._table(_METADATA_FILE)
        if path is None:
            reason = "the metadata table is not there: each volume counts as a patient of its own"
            self.skips.append(Skip(_METADATA_FILE, reason))
            return {}
        broken: list[str] = []
        patients = {
            row[_KEY].strip(): row[_PATIENT].strip()
            for row in stream_table(path, (_KEY, _PATIENT), broken=broken)
            if not is_empty(row[_PATIENT])
        }
        self._report(path, broken)
        return patients

    def _report(self, path: Path, broken: list[str]) -> None:
        self.skips += [Skip(str(path), f"{problem}; row ignored") for problem in broken]

    def _labels(self, path: Path, used: set[str]) -> dict[str, dict[str, int]]:
        labels: dict[str, dict[str, int]] = {}
        columns: dict[str, list[str]] = {}
        broken: list[str] = []
        for row in stream_table(path, (_KEY,), broken=broken):
            columns = columns or _columns(path, row, set(self.classes.values()))
            key = row[_KEY].strip()
            if is_empty(key):
                self.skips.append(Skip(str(path), f"a row without a {_KEY}; row ignored"))
            elif key in labels or key in used:
                reason = "the volume is listed more than once; the first row counts"
                self.skips.append(Skip(key, f"{path.name}: {reason}"))
            else:
                present = {name: _maximum(row, columns[name]) for name in columns}
                labels[key] = {label: present[name] for label, name in self.classes.items()}
                unknown = [label for label, value in labels[key].items() if value < 0]
                if unknown:
                    reason = f"cells that are neither 0 nor 1: {', '.join(unknown)} unknown"
                    self.skips.append(Skip(key, reason))
        self._report(path, broken)
        return labels


def _columns(path: Path, columns: Iterable[str], names: set[str]) -> dict[str, list[str]]:
    """Find the columns "abnormality*location" of each abnormality."""
    found: dict[str, list[str]] = {}
    for column in columns:
        abnormality, star, _ = column.partition("*")
        if star:
            found.setdefault(abnormality, []).append(column)
    for name in sorted(names):
        if name not in found:
            raise ValueError(
                f"{path} has no column '{name}*...'{nearest(name, found)}; its columns must be "
                f"abnormality*location, such as 'nodule*left_upper', and {_KEY}"
            )
    return {name: found[name] for name in sorted(names)}


def _maximum(row: Mapping[str, str], columns: Sequence[str]) -> int:
    """Return 1 if any cell is 1, else -1 if any cell cannot be read, else 0."""
    cells = {row[column].strip() for column in columns}
    if cells & {"1", "1.0"}:
        return 1
    return 0 if cells and cells <= {"0", "0.0"} else -1
