"""RadGenome-ChestCT: CT-RATE with regions: sentences, questions and masks for each (Zhang et al.).

The data set is at huggingface.co/datasets/RadGenome/RadGenome-ChestCT (Zhang et al., Scientific
Data 2025; it derives from CT-RATE, CC BY-NC-SA 4.0, and is requested there). Under `dataset/`:

- `{train,valid}_preprocessed/train_1/train_1a/train_1_a_1.nii.gz`, one volume to a session;
- `{train,valid}_region_mask/seg_train_1_a_1/lung.nii.gz`, ten regions, and
  `{train,valid}_anatomy_mask/seg_train_1_a_1/left lung lower lobe.nii.gz`, finer places, both from
  archives that are joined and unpacked;
- `radgenome_files/{train,validation}_<table>.csv` with these columns, `Volumename` first in each:
  region_report (Anatomy, Sentence), vqa_abnormality and vqa_location (Anatomy, Abnormality),
  vqa_presence (Anatomy, Finding, Presence "Yes."/"No."), vqa_size (Anatomy, Abnormality, Size),
  case_disorders (Disorders). Anatomy is a path such as "lung/lung/right lung", or empty for the
  whole scan.

Sources: the authors' repository, whose code and excerpts of the tables have these names. The
volumes are HU, resampled to 1 x 1 x 3 mm in the storage order of CT-RATE, with headers that say
1 mm: this follows from sizes and spacings that readers report; it could not be checked on a file.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from medvlp.data.ct_rate_tree import VOLUME_NAME, dataset_folder, volume_files
from medvlp.data.radgenome_questions import KINDS, WORDINGS, QuestionTables
from medvlp.data.records import ScanRecord, Skip, StudyRecord, StudySource
from medvlp.data.scan import check_orientation
from medvlp.data.tables import is_empty, stream_table
from medvlp.types import Spacing3D

REGIONS = (
    "abdomen",
    "bone",
    "breast",
    "esophagus",
    "heart",
    "lung",
    "mediastinum",
    "pleura",
    "thyroid",
    "trachea and bronchie",
)
_FILE_PREFIX = {"train": "train", "valid": "validation"}
_SPLIT = {"train": "train", "valid": "test"}


class RadGenome(StudySource):
    """RadGenome-ChestCT: region-wise reports, questions with answers, masks of regions.

    Texts are "findings" (all sentences once, in their order) and one section for each region, its
    name with "_" for " ". Masks are binary and become the companions "mask_lung" and so on.

    Args:
        root: The repository's folder, which holds `dataset/`, or `dataset/` itself.
        splits: Which published splits to read: "train", "valid" (which becomes "test").
        questions: Kinds of questions: abnormality, presence, location, size, disorder, report.
        finest_places: Of the nested places of a location question keep the finest, once, as
            "Lung/Left lung lower lobe" (region, place). False keeps every row and its whole path.
        wordings: Kind to templates with {abnormality} and {region}; every question gets one of
            its kind, always the same one. None takes one wording for each kind.
        masks: Regions whose masks are companions, of `REGIONS`.
        spacing_mm: Of the arrays (d, h, w); null trusts each header.
        orientation: Of the arrays; null trusts each header.
    """

    name = "radgenome"

    def __init__(
        self,
        root: str,
        *,
        splits: Sequence[str] = ("train", "valid"),
        questions: Sequence[str] = KINDS,
        finest_places: bool = True,
        wordings: Mapping[str, Sequence[str]] | None = None,
        masks: Sequence[str] = (),
        spacing_mm: Sequence[float] | None = (3.0, 1.0, 1.0),
        orientation: str | None = "SPL",
    ) -> None:
        for what, given, known in (
            ("splits", splits, _SPLIT),
            ("questions", questions, KINDS),
            ("masks", masks, REGIONS),
        ):
            if unknown := [name for name in given if name not in known]:
                raise ValueError(f"{what} has {unknown}, expected a choice of {list(known)}")
        if orientation is not None:
            check_orientation(orientation)
        self.root, self.splits = Path(root), tuple(splits)
        self.questions = tuple(questions)
        self.finest_places = finest_places
        self.wordings = WORDINGS | {kind: tuple(some) for kind, some in (wordings or {}).items()}
        self.masks, self.orientation = tuple(masks), orientation
        self.spacing_mm: Spacing3D | None = None
        if spacing_mm is not None:
            depth, height, width = spacing_mm
            self.spacing_mm = (depth, height, width)
        self.label_names = ()
        self.skips: list[Skip] = []

    def describe(self) -> dict[str, Any]:
        """State where the data set lies and which part of it is read."""
        return {
            "name": self.name,
            "root": str(self.root.resolve()),
            "splits": list(self.splits),
            "questions": list(self.questions),
            "finest_places": self.finest_places,
            "wordings": {kind: list(self.wordings[kind]) for kind in self.questions},
            "masks": list(self.masks),
            "spacing_mm": list(self.spacing_mm) if self.spacing_mm else None,
            "orientation": self.orientation,
        }

    def studies(self) -> Iterator[StudyRecord]:
        """Yield one study for each session, in the order of the files."""
        self.skips.clear()
        dataset = self._dataset_folder()
        for split in self.splits:
            yield from self._split_studies(dataset, split)

    def _dataset_folder(self) -> Path:
        if folder := dataset_folder(self.root, "radgenome_files"):
            return folder
        raise FileNotFoundError(
            f"no RadGenome-ChestCT under {self.root}: expected dataset/{{train_preprocessed,"
            "valid_preprocessed,radgenome_files}. Request access at "
            "huggingface.co/datasets/RadGenome/RadGenome-ChestCT, or write a small twin with: "
            "python -m medvlp.phantom radgenome DIR"
        )

    def _split_studies(self, dataset: Path, split: str) -> Iterator[StudyRecord]:
        tables = dataset / "radgenome_files"
        prefix = _FILE_PREFIX[split]
        sentences = self._sentences(tables / f"{prefix}_region_report.csv")
        asked = QuestionTables(self.questions, self.wordings, finest_places=self.finest_places)
        questions = asked.read(tables, prefix, sentences, self.skips)
        sessions: dict[str, list[Path]] = {}
        files = volume_files(dataset / f"{split}_preprocessed")
        for name, path in files.items():
            sessions.setdefault(name.split(".")[0].rpartition("_")[0], []).append(path)
        for name in sorted((sentences.keys() | questions.keys()) - files.keys()):
            self.skips.append(Skip(name, "listed in the tables, but the file is not there"))
        for session, paths in sessions.items():
            yield StudyRecord(
                study_id=session,
                patient_id=session.rpartition("_")[0],
                split=_SPLIT[split],
                scans=tuple(self._scan(dataset, split, path) for path in paths),
                texts=self._texts(session, [sentences.get(path.name, []) for path in paths]),
                questions=tuple(q for path in paths for q in questions.get(path.name, ())),
            )

    def _sentences(self, path: Path) -> dict[str, list[tuple[str, str]]]:
        """Read region and sentence of every volume."""
        found: dict[str, list[tuple[str, str]]] = {}
        broken: list[str] = []
        for row in stream_table(path, ("Volumename", "Anatomy", "Sentence"), broken=broken):
            name = row["Volumename"].strip()
            if not VOLUME_NAME.fullmatch(name):
                reason = "not a CT-RATE volume name (like train_1_a_1.nii.gz); row ignored"
                self.skips.append(Skip(name, f"{path.name}: {reason}"))
            elif not is_empty(row["Sentence"]):
                region = "" if is_empty(row["Anatomy"]) else row["Anatomy"].strip()
                found.setdefault(name, []).append((region, row["Sentence"].strip()))
        self.skips += [Skip(str(path), f"{problem}; row ignored") for problem in broken]
        return found

    def _texts(self, session: str, volumes: list[list[tuple[str, str]]]) -> dict[str, str]:
        rows = next((rows for rows in volumes if rows), [])
        if not rows:
            reason = "a volume without sentences: not for training, kept for evaluation"
            self.skips.append(Skip(session, reason))
            return {}
        texts = {"findings": _joined(sentence for _, sentence in rows)}
        for head in REGIONS:
            own = [text for region, text in rows if region.partition("/")[0] == head]
            if own:
                texts[head.replace(" ", "_")] = _joined(own)
        return texts

    def _scan(self, dataset: Path, split: str, path: Path) -> ScanRecord:
        stem = path.name.split(".")[0]
        companions: dict[str, Path] = {}
        for region in self.masks:
            mask = dataset / f"{split}_region_mask" / f"seg_{stem}" / f"{region}.nii.gz"
            if mask.is_file():
                companions[f"mask_{region.replace(' ', '_')}"] = mask
            else:
                self.skips.append(Skip(path.name, f"no mask of the {region}"))
        return ScanRecord(
            scan_id=stem,
            path=path,
            spacing_mm=self.spacing_mm,
            orientation=self.orientation,
            companions=companions,
        )


def _joined(sentences: Iterator[str] | Sequence[str]) -> str:
    return " ".join(dict.fromkeys(sentences))
