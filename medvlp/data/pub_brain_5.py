"""Pub-Brain-5: 18,343 brain MRI studies of five public sources in five classes, as HLIP names them.

The classes are Normal, Stroke, Glioma, Meningioma and Metastasis; the set measures zero-shot
diagnosis, so it has no reports and no training split. HLIP (Zhao et al., arXiv 2505.21862)
publishes two tables: `pub_brain_5.csv` (study, five one-hot columns) and `ground_truth.csv` (study,
slices of the lesion, as NumPy prints an array). Put them beside the raw sources:

    root/pub_brain_5.csv, root/ground_truth.csv
    root/brats23/BraTS-{GLI,MEN,MET,PED}/<*Train* or *Validation*>/<study>/<study>-t1c.nii.gz
    root/{open_bhb,stroke,nyu_mets,ucsf_mets}/<study>/<series>/nifti/SERIES.nii.gz

Files and folders whose name contains "seg" or "mask" are annotations. Layout, names of series and
tables were learnt from the `data/pub_brain_5` folder of github.com/Zch0414/hlip (scripts, tables,
and the processing logs of a later state). Not verified: how the four `nifti/SERIES.nii.gz` trees
came about (OpenBHB, for one, is handed out as NumPy arrays), and the folder names of the BraTS
sets beyond the words Train and Validation. The published listing order of scans is that of the
file system; here it is sorted.

Where to ask: OpenBHB baobablab.github.io/bhb (licences of its ten source studies), acute stroke
icpsr.umich.edu study 38464 (restricted-use agreement), BraTS 2023 synapse.org syn51156910
(challenge terms), NYUMets nyumets.org (data use agreement), UCSF-BMSR imagingdatasets.ucsf.edu
(non-commercial agreement).
"""

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from medvlp.data.additions import Additions
from medvlp.data.choices import check_choice
from medvlp.data.listing import folders_in
from medvlp.data.records import ScanRecord, Skip, StudyRecord, StudySource
from medvlp.data.tables import read_table

LABEL_NAMES = ("Normal", "Stroke", "Glioma", "Meningioma", "Metastasis")
SOURCES = ("open_bhb", "stroke", "brats23", "nyu_mets", "ucsf_mets")
BRATS_SETS = {
    "BraTS-GLI": "adult_glioma",
    "BraTS-MEN": "adult_meningioma",
    "BraTS-MET": "adult_metastasis",
    "BraTS-PED": "pediatric_glioma",
}
"""Challenge data sets, and what the published table calls them."""

_ANNOTATION = re.compile(r"seg|mask", re.IGNORECASE)
_PATIENT = {
    "brats23": re.compile(r"(BraTS-[A-Z]+-\d+)-\d+"),
    "nyu_mets": re.compile(r"(NYU_Mets_\d+)_\d+"),
    "ucsf_mets": re.compile(r"(\d+)[A-Z]*"),
}
"""What part of a study's name is the patient's; in the other sources all of it is."""


class PubBrain5(StudySource):
    """The five sources in their raw trees, chosen and labelled by the published table.

    Every scan is an MR scan of one sequence; the last part of its id names the sequence. Series of
    the stroke set may have several channels (b0 and diffusion-weighted; perfusion has more). The
    source stands in the metadata of a study, the lesion's slices under `target_slices`.

    Attributes:
        has_additions: Whether `splits.csv` and `reports.csv` lie in the root, as in the twin.

    Args:
        root: Holds the tables and one folder per source.
        sources: Which to read; studies of the others are not missed.
        table: Name of the published table within `root`; `pub_brain_5_gt.csv` is the smaller set
            whose lesions are known.
        split: Of every study: the published set is for testing only.
        splits: Optional CSV (study, split) with a division of your own.
        reports: Optional CSV (study, report or findings and impression) to train on.
    """

    name = "pub_brain_5"
    has_additions: ClassVar[bool] = False

    def __init__(
        self,
        root: str,
        *,
        sources: Sequence[str] = SOURCES,
        table: str = "pub_brain_5.csv",
        split: str = "test",
        splits: str | None = None,
        reports: str | None = None,
    ) -> None:
        check_choice("sources", sources, SOURCES)
        self.root = Path(root)
        self.sources = tuple(sources)
        self.table = table
        self.additions = Additions(
            root if self.has_additions else None,
            splits=splits,
            reports=reports,
            default_split=split,
        )
        self.label_names = LABEL_NAMES
        self.skips: list[Skip] = []

    def describe(self) -> dict[str, Any]:
        """State where the data set lies and which part of it is read."""
        return {
            "name": self.name,
            "root": str(self.root.resolve()),
            "sources": list(self.sources),
            "table": self.table,
            "label_names": list(self.label_names),
            **self.additions.describe(),
        }

    def studies(self) -> Iterator[StudyRecord]:
        """Yield the studies in the order of the published table."""
        self.skips.clear()
        if not (self.root / self.table).is_file():
            raise FileNotFoundError(
                f"no {self.table} in {self.root}: take the tables from data/pub_brain_5 of "
                "github.com/Zch0414/hlip and put the sources beside them, or write a small twin "
                "with: python -m medvlp.phantom pub_brain_5 DIR"
            )
        rows = read_table(self.root / self.table, ("study", *LABEL_NAMES))
        slices = self._target_slices()
        self.additions.read()
        folders = dict(self._folders())
        seen: set[str] = set()
        for row in rows:
            study_id = study_key(row["study"])
            if study_id.split("/")[0] not in self.sources:
                continue
            if study_id in seen:
                self.skips.append(Skip(study_id, "listed more than once; the first row counts"))
                continue
            seen.add(study_id)
            scans = self._scans(study_id, folders)
            if scans:
                yield self._study(study_id, row, scans, slices.get(study_id, ""))
        unlisted = Counter(key.split("/")[0] for key in folders if key not in seen)
        for source, count in sorted(unlisted.items()):
            self.skips.append(Skip(source, f"{count} of its folders stand in no row of the table"))

    def _target_slices(self) -> dict[str, str]:
        path = self.root / "ground_truth.csv"
        if not path.is_file():
            return {}
        rows = read_table(path, ("study", "target_slices"))
        return {
            study_key(row["study"]): " ".join(re.findall(r"\d+", row["target_slices"]))
            for row in rows
        }

    def _folders(self) -> Iterator[tuple[str, Path]]:
        """List the study folders of all sources: no path is ever built from a table."""
        for source in self.sources:
            folder = self.root / source
            if not folder.is_dir():
                self.skips.append(Skip(source, f"no folder {folder}: its studies are left out"))
            elif source == "brats23":
                yield from _brats_folders(folder)
            else:
                yield from ((f"{source}/{study.name}", study) for study in folders_in(folder))

    def _scans(self, study_id: str, folders: Mapping[str, Path]) -> tuple[ScanRecord, ...]:
        if study_id not in folders:
            if (self.root / study_id.split("/")[0]).is_dir():
                self.skips.append(
                    Skip(study_id, "listed in the table, but its folder is not there")
                )
            return ()
        folder = folders[study_id]
        if study_id.startswith("brats23/"):
            files = {name.split(".")[0]: folder / name for name in _volumes(folder)}
        else:
            files = {
                series.name: series / "nifti" / "SERIES.nii.gz"
                for series in folders_in(folder)
                if not _ANNOTATION.search(series.name)
            }
        scans: list[ScanRecord] = []
        for name, path in files.items():
            if path.is_file():
                # published: only the stroke set's series may have two channels (b0, diffusion)
                stack = study_id.startswith("stroke/")
                scans.append(ScanRecord(f"{study_id}/{name}", path, modality="MR", stack=stack))
            else:
                self.skips.append(Skip(f"{study_id}/{name}", "the series has no SERIES.nii.gz"))
        if not scans:
            self.skips.append(Skip(study_id, "a study without a volume"))
        return tuple(scans)

    def _study(
        self, study_id: str, row: Mapping[str, str], scans: tuple[ScanRecord, ...], slices: str
    ) -> StudyRecord:
        source, name = study_id.split("/")[0], study_id.rpartition("/")[2]
        patient = _PATIENT[source].fullmatch(name) if source in _PATIENT else None
        patient_id = patient[1] if patient else name
        return StudyRecord(
            study_id=study_id,
            patient_id=patient_id,
            split=self.additions.split(study_id, patient_id),
            scans=scans,
            texts=self.additions.texts(study_id),
            labels=self._labels(study_id, row),
            metadata={"source": source} | ({"target_slices": slices} if slices else {}),
        )

    def _labels(self, study_id: str, row: Mapping[str, str]) -> dict[str, int]:
        cells = [row[name].strip() for name in LABEL_NAMES]
        if sorted(cells) == ["0"] * (len(cells) - 1) + ["1"]:
            return {name: int(cell) for name, cell in zip(LABEL_NAMES, cells, strict=True)}
        reason = f"its classes are {','.join(cells)}, expected a single 1: all labels unknown"
        self.skips.append(Skip(study_id, reason))
        return dict.fromkeys(LABEL_NAMES, -1)


def study_key(published: str) -> str:
    """Return a study's path below the published prefix.

    >>> study_key("/data/pub_brain_5/open_bhb/sub-135700393345")
    'open_bhb/sub-135700393345'
    """
    parts = [part for part in published.strip().split("/") if part]
    starts = [index for index, part in enumerate(parts) if part in SOURCES]
    return "/".join(parts[starts[0] :]) if starts else "/".join(parts)


def _brats_folders(root: Path) -> Iterator[tuple[str, Path]]:
    for dataset, kind in BRATS_SETS.items():
        if not (root / dataset).is_dir():
            continue
        for folder in folders_in(root / dataset):
            part = "train" if "Train" in folder.name else "test"
            if part == "train" or "Validation" in folder.name:
                for study in folders_in(folder):
                    yield f"brats23/{part}/{kind}/{study.name}", study


def _volumes(folder: Path) -> list[str]:
    names = sorted(entry.name for entry in os.scandir(folder) if entry.is_file())
    return [
        name
        for name in names
        if name.endswith(".nii.gz") and not name.startswith(".") and not _ANNOTATION.search(name)
    ]
