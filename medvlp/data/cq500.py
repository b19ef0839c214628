"""CQ500: 491 head CT scans read by three radiologists (Chilamkurthy et al., Lancet 2018).

Layout of the unpacked download (headctstudy.qure.ai, later academictorrents.com; CC BY-NC-SA 4.0):

    reads.csv      name,Category,R1:ICH,R1:IPH,...,R1:MidlineShift,R2:ICH,...,R3:MidlineShift
    CQ500CT0 CQ500CT0/Unknown Study/CT PLAIN THIN/CT000000.dcm

where `name` is CQ500-CT-0, and a patient has several series: thick and thin ones without contrast
medium, bone kernels, and at times ones with contrast medium. What a series is stands in its
folder's name alone: "CT Plain", "CT 5mm", "CT 0.625mm", "CT PRE CONTRAST THIN", "CT BONE", "CT POST
CONTRAST", "CT CECT THIN", "CT 4cc sec 150cc D3D on" (a contrast injection). Folders may also lie
one or two levels deeper (CQ500-CT-0/..., qct01/...), and blanks may have become underscores.
Learnt from public loaders of the set. Not verified: that the list of names is complete (an unknown
name counts as a plain series, and every choice is told), and whether a patient of the second batch
occurs twice. A label is what at least two of the three readers say.
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
from medvlp.data.readers.registry import Irregular
from medvlp.data.records import ScanRecord, Skip, StudyRecord, StudySource
from medvlp.data.tables import read_table

LABEL_NAMES = (
    "ICH",
    "IPH",
    "IVH",
    "SDH",
    "EDH",
    "SAH",
    "BleedLocation-Left",
    "BleedLocation-Right",
    "ChronicBleed",
    "Fracture",
    "CalvarialFracture",
    "OtherFracture",
    "MassEffect",
    "MidlineShift",
)
READERS = ("R1", "R2", "R3")
CHOICES = ("plain", "thin", "thick", "all")
_PATIENT = re.compile(r"CQ500[-_ ]?CT[-_ ]?(\d+)([ _]CQ500CT\1)?")
_MAX_DEPTH = 3  # of a patient's folder below the root
_CONTRAST = re.compile(
    r"(?<!PRE )(?<!PRE_)CONTRAST|\bPOST\b|CECT|\bORAL\b|\d+CC SEC", re.IGNORECASE
)
_BONE = re.compile(r"BONE", re.IGNORECASE)


class CQ500(StudySource):
    """A study is a patient, its scans are the series that were chosen.

    Attributes:
        has_additions: Whether `splits.csv` and `reports.csv` lie in the root, as in the twin.

    Args:
        root: Holds `reads.csv` and the patients' folders.
        series: "plain": all without contrast medium but bone kernels; "thin" or "thick": of those
            the one with the most or the fewest slices; "all": every series.
        split: Of every study: HLIP tests on this set.
        splits: Optional CSV (study, split) with a division of your own, by `name`.
        reports: Optional CSV (study, report or findings and impression).
        label_names: In the order of a batch, a choice of `LABEL_NAMES`.
        irregular: "correct" series that are tilted or unevenly spaced, as head CT often is, or
            "refuse" them.
    """

    name = "cq500"
    has_additions: ClassVar[bool] = False

    def __init__(
        self,
        root: str,
        *,
        series: str = "plain",
        split: str = "test",
        splits: str | None = None,
        reports: str | None = None,
        label_names: Sequence[str] = LABEL_NAMES,
        irregular: Irregular = "correct",
    ) -> None:
        check_choice("label_names", label_names, LABEL_NAMES)
        if series not in CHOICES:
            raise ValueError(f"series is {series!r}, expected one of {', '.join(CHOICES)}")
        self.root = Path(root)
        self.series = series
        self.additions = Additions(
            root if self.has_additions else None,
            splits=splits,
            reports=reports,
            default_split=split,
        )
        self.label_names = tuple(label_names)
        self.irregular: Irregular = irregular
        self.skips: list[Skip] = []

    def describe(self) -> dict[str, Any]:
        """State where the data set lies and which part of it is read."""
        return {
            "name": self.name,
            "root": str(self.root.resolve()),
            "series": self.series,
            "label_names": list(self.label_names),
            "irregular": self.irregular,
            **self.additions.describe(),
        }

    def studies(self) -> Iterator[StudyRecord]:
        """Yield the patients in the order of the table."""
        self.skips.clear()
        if not (self.root / "reads.csv").is_file():
            raise FileNotFoundError(
                f"no CQ500 under {self.root}: expected reads.csv and folders such as 'CQ500CT0 "
                "CQ500CT0'. Download: headctstudy.qure.ai (CC BY-NC-SA 4.0), or write a small twin "
                "with: python -m medvlp.phantom cq500 DIR"
            )
        columns = [f"{reader}:{name}" for reader in READERS for name in LABEL_NAMES]
        rows = read_table(self.root / "reads.csv", ("name", "Category", *columns))
        self.additions.read()
        folders = self._patient_folders()
        for row in rows:
            name = row["name"].strip()
            folder = folders.pop(name, None)
            if folder is None:
                self.skips.append(Skip(name, "listed in reads.csv, but its folder is not there"))
                continue
            scans = self._scans(name, folder)
            if scans:
                yield StudyRecord(
                    study_id=name,
                    patient_id=name,
                    split=self.additions.split(name, name),
                    scans=scans,
                    texts=self.additions.texts(name),
                    labels={label: _majority(row, label) for label in self.label_names},
                    metadata={"category": row["Category"].strip()},
                )
        for name in folders:
            self.skips.append(Skip(name, "a folder without a row in reads.csv, or listed twice"))

    def _patient_folders(self) -> dict[str, Path]:
        """Find the patients by listing: no path is ever built from a table."""
        found: dict[str, Path] = {}
        level = [self.root]
        for _ in range(_MAX_DEPTH):
            below: list[Path] = []
            for folder in (entry for parent in level for entry in folders_in(parent)):
                match = _PATIENT.fullmatch(folder.name)
                if match and any(map(_is_study, folders_in(folder))):
                    found.setdefault(f"CQ500-CT-{match[1]}", folder)
                else:
                    below.append(folder)
            level = below
        return found

    def _scans(self, name: str, folder: Path) -> tuple[ScanRecord, ...]:
        series = [s for study in folders_in(folder) for s in folders_in(study) if _files(s)]
        chosen = [s for s in series if self.series == "all" or not _reason(s.name)]
        if chosen and self.series in ("thin", "thick"):
            pick = max if self.series == "thin" else min
            chosen = [pick(chosen, key=lambda path: len(_files(path)))]
        for path in (path for path in series if path not in chosen):
            what = _reason(path.name) or f"not the one that series={self.series} asks for"
            self.skips.append(Skip(f"{name}/{path.name}", f"series left out: {what}"))
        if not chosen:
            self.skips.append(Skip(name, "a study without a series of the kind that is asked for"))
        names = Counter(path.name for path in chosen)
        return tuple(
            ScanRecord(
                f"{name}/{path.name if names[path.name] == 1 else path.relative_to(folder)}",
                path,
                modality="CT",
                files=_files(path),
                irregular=self.irregular,
            )
            for path in chosen
        )


def _reason(name: str) -> str:
    """Say why a series is not a plain one; empty if it is."""
    if _CONTRAST.search(name):
        return "contrast medium, by its name"
    return "bone kernel, by its name" if _BONE.search(name) else ""


def _majority(row: Mapping[str, str], label: str) -> int:
    votes = Counter(row[f"{reader}:{label}"].strip() for reader in READERS)
    return next((int(vote) for vote in ("0", "1") if votes[vote] >= 2), -1)


def _is_study(folder: Path) -> bool:
    return not _PATIENT.fullmatch(folder.name)


def _files(folder: Path) -> tuple[Path, ...]:
    names = sorted(entry.name for entry in os.scandir(folder) if entry.is_file())
    return tuple(folder / name for name in names if name.lower().endswith(".dcm"))
