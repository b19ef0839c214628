"""RSNA Intracranial Hemorrhage Detection (2019): head CT with labels for each slice.

Layout of the Kaggle download (rsna-intracranial-hemorrhage-detection, stage 2): 752,803 labelled
slices, 21,744 series, as loose files in one folder:

    stage_2_train.csv          ID,Label with six rows a slice: ID_0a1b2c3d4_epidural,0 ... _any,1
    stage_2_train/ID_0a1b2c3d4.dcm

Nothing but the headers says which slices belong together, so they are read, once: name an `index`
to keep the result. Learnt from public solutions and from `data/rsna.csv` of
github.com/Zch0414/hlip, whose columns are the first five labels here: one sample per series, 1 if
any of its slices is. Known faults of the set, all handled: four slices stand twice in the table,
ID_6431af929 has too few pixels, and some series hold signed numbers under an unsigned header (they
are left out and counted). Not verified: that every study has a single series (reported by others);
several would become several samples. The unlabelled stage_2_test is not read.

Request: kaggle.com/c/rsna-intracranial-hemorrhage-detection, whose rules allow academic use.
"""

import csv
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, ClassVar

from medvlp.data.additions import Additions
from medvlp.data.choices import check_choice
from medvlp.data.readers.registry import Irregular
from medvlp.data.records import ScanRecord, Skip, StudyRecord, StudySource
from medvlp.data.rsna_index import Instance, index_instances

LABEL_NAMES = (
    "Any",
    "Intraparenchymal",
    "Intraventricular",
    "Subarachnoid",
    "Subdural",
    "Epidural",
)
"""HLIP's names and order; it leaves out the last."""

_FOLDERS = ("stage_2_train", "stage_2_train_images")
_IMAGE = re.compile(r"(ID_[0-9a-f]+)_(\w+)")


class RSNA(StudySource):
    """Every series is a study of one scan.

    Attributes:
        has_additions: Whether `splits.csv` and `reports.csv` lie in the root, as in the twin.

    Args:
        root: Holds `stage_2_train.csv` and `stage_2_train/`.
        index: CSV of what the headers say: read if it is there, else written. Without it, the
            headers of all files are read every time (some minutes for the whole set).
        split: Of every study: HLIP tests on this set and trains on none of it.
        splits: Optional CSV (study, split) with a division of your own, by study UID.
        reports: Optional CSV (study, report or findings and impression).
        label_names: In the order of a batch, a choice of `LABEL_NAMES`.
        irregular: "correct" series that are tilted or unevenly spaced, as head CT often is, or
            "refuse" them.
        num_workers: Processes that read headers; None takes one per core.
    """

    name = "rsna"
    has_additions: ClassVar[bool] = False

    def __init__(
        self,
        root: str,
        *,
        index: str | None = None,
        split: str = "test",
        splits: str | None = None,
        reports: str | None = None,
        label_names: Sequence[str] = LABEL_NAMES,
        irregular: Irregular = "correct",
        num_workers: int | None = None,
    ) -> None:
        check_choice("label_names", label_names, LABEL_NAMES)
        self.root = Path(root)
        self.index = Path(index) if index else None
        self.additions = Additions(
            root if self.has_additions else None,
            splits=splits,
            reports=reports,
            default_split=split,
        )
        self.label_names = tuple(label_names)
        self.irregular: Irregular = irregular
        self.num_workers = num_workers
        self.skips: list[Skip] = []

    def describe(self) -> dict[str, Any]:
        """State where the data set lies and which part of it is read."""
        return {
            "name": self.name,
            "root": str(self.root.resolve()),
            "label_names": list(self.label_names),
            "irregular": self.irregular,
            **self.additions.describe(),
        }

    def studies(self) -> Iterator[StudyRecord]:
        """Yield a study for each series, in the order of the series UIDs."""
        self.skips.clear()
        folder = self._folder()
        labels = self._slice_labels(self.root / "stage_2_train.csv")
        self.additions.read()
        instances = index_instances(folder, self.index, num_workers=self.num_workers)
        series = {
            uid: list(slices) for uid, slices in groupby(instances, key=lambda one: one.series)
        }
        self._skip_damaged(series.pop("", []))
        per_study = Counter(slices[0].study for slices in series.values())
        for uid, slices in series.items():
            faults = sorted({one.fault for one in slices if one.fault})
            if faults:
                self.skips.append(Skip(uid, f"the series has {'; '.join(faults)}: left out"))
                continue
            study = slices[0].study
            study_id = study if per_study[study] == 1 else f"{study}/{uid}"
            yield StudyRecord(
                study_id=study_id,
                patient_id=slices[0].patient,
                split=self.additions.split(study, slices[0].patient),
                scans=(self._scan(uid, folder, slices),),
                texts=self.additions.texts(study),
                labels=self._labels(uid, slices, labels),
            )
        missing = len(labels.keys() - {one.image for one in instances})
        if missing:
            reason = f"{missing} slices of the table have no file"
            self.skips.append(Skip("stage_2_train.csv", reason))

    def _folder(self) -> Path:
        for name in _FOLDERS:
            if (self.root / name).is_dir():
                return self.root / name
        raise FileNotFoundError(
            f"no RSNA head CT under {self.root}: expected stage_2_train.csv and stage_2_train/. "
            "Request: kaggle.com/c/rsna-intracranial-hemorrhage-detection, or write a small twin "
            "with: python -m medvlp.phantom rsna DIR"
        )

    def _slice_labels(self, path: Path) -> dict[str, dict[str, int]]:
        """Read the table row by row: it has 4.5 million."""
        if not path.is_file():
            raise FileNotFoundError(f"{path} is not there; columns expected: ID, Label")
        labels: dict[str, dict[str, int]] = {}
        repeated = wrong = 0
        wanted = {name.lower(): name for name in LABEL_NAMES}
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.reader(file)
            if next(rows, None) != ["ID", "Label"]:
                raise ValueError(f"{path}: the first line must be ID,Label")
            for row in rows:
                match = _IMAGE.fullmatch(row[0].strip()) if len(row) == 2 else None
                name = wanted.get(match[2]) if match else None
                if match is None or name is None or row[1].strip() not in ("0", "1"):
                    wrong += 1
                    continue
                known = labels.setdefault(match[1], {})
                repeated += name in known
                known.setdefault(name, int(row[1]))
        for count, what in ((repeated, "are repeated; the first counts"), (wrong, "are broken")):
            if count:
                self.skips.append(Skip(path.name, f"{count} rows {what}"))
        return labels

    def _skip_damaged(self, instances: Sequence[Instance]) -> None:
        for one in instances:
            self.skips.append(Skip(f"{one.image}.dcm", f"{one.fault}: belongs to no series"))

    def _labels(
        self, uid: str, slices: Sequence[Instance], labels: Mapping[str, Mapping[str, int]]
    ) -> dict[str, int]:
        known = [labels[one.image] for one in slices if one.image in labels]
        if len(known) < len(slices):
            reason = f"{len(slices) - len(known)} of its slices have no label"
            self.skips.append(Skip(uid, f"{reason}: where no slice is positive, unknown"))
        result: dict[str, int] = {}
        for name in self.label_names:
            values = [row.get(name, -1) for row in known]
            positive, complete = 1 in values, len(known) == len(slices) and -1 not in values
            result[name] = 1 if positive else 0 if complete else -1
        return result

    def _scan(self, uid: str, folder: Path, slices: Sequence[Instance]) -> ScanRecord:
        files = tuple(folder / f"{one.image}.dcm" for one in slices)
        return ScanRecord(uid, folder, modality="CT", files=files, irregular=self.irregular)
