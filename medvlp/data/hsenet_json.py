"""HSENet's own layout: a JSON file that names arrays and says what is said of them.

`{"train": [...], "validation": [...]}`, each item with `image` (NumPy file of a volume,
(1, 32, 256, 256) from 0 to 1), `text` (the report), `biomedclip_features` (NumPy file, (32, 768)),
and in a file of questions `abnormality` (what is asked for) and `anatomy` (where it is,
"Lung/Right lower lobe").
`medvlp.data.hsenet_export` writes it. Source: the data set classes of github.com/YanzhaoShi/HSENet.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from medvlp.data.ct_rate_tree import VOLUME_NAME
from medvlp.data.radgenome_questions import WORDINGS
from medvlp.data.records import Question, ScanRecord, Skip, StudyRecord, StudySource
from medvlp.data.scan import check_orientation
from medvlp.data.tables import is_empty, read_table

Item = dict[str, Any]

SPLIT = {"train": "train", "validation": "test"}
"""The published lists; "validation" is what the published evaluation reads."""
IMAGE_SUFFIX, FEATURES_SUFFIX = "_3D_features.npy", "_biomedclip_features.npy"
_LOCATION = WORDINGS["location"][0]


class HSENetJSON(StudySource):
    """Volumes and features that a JSON file of HSENet's layout names.

    A volume is a study of its own; items of the same volume are its questions. Volumes named as
    CT-RATE's and BIMCV-R's tell their patient, any other is a patient of its own.

    Args:
        file: The JSON file.
        root: The folder that holds the arrays; no path may lead out of it.
        prefix: What paths begin with on the machine where the file was written, in place of `root`.
        labels: Tables of labels as CT-RATE's, with the column VolumeName, for retrieval of volumes.
        label_names: Their columns.
        orientation: Of the volumes, published for CT-RATE: slices upwards, columns, rows.
        name: Names the cache folder.
    """

    def __init__(
        self,
        file: str,
        root: str,
        *,
        prefix: str | None = None,
        labels: Sequence[str] = (),
        label_names: Sequence[str] = (),
        orientation: str = "SLP",
        name: str = "hsenet_json",
    ) -> None:
        check_orientation(orientation)
        self.file, self.root, self.prefix = Path(file), Path(root), prefix
        self.labels, self.label_names = tuple(map(Path, labels)), tuple(label_names)
        self.orientation, self.name = orientation, name
        self.skips: list[Skip] = []

    def describe(self) -> dict[str, Any]:
        """State where the file and the arrays lie."""
        return {
            "name": self.name,
            "file": str(self.file.resolve()),
            "root": str(self.root.resolve()),
            "labels": [str(path.resolve()) for path in self.labels],
            "label_names": list(self.label_names),
            "orientation": self.orientation,
        }

    def studies(self) -> Iterator[StudyRecord]:
        """Yield the volumes in the order of the lists.

        Raises:
            FileNotFoundError: If the file or a table is not there.
            ValueError: If the file is of another layout, or a path leads out of `root`.
        """
        self.skips.clear()
        lists = self._read()
        labels = self._labels()
        seen: dict[Path, str] = {}
        for split, items in lists.items():
            grouped: dict[Path, list[Item]] = {}
            for number, item in enumerate(items):
                where = f"{self.file}: {split}[{number}]"
                if not isinstance(item, dict) or not isinstance(item.get("image"), str):
                    self.skips.append(Skip(where, "an item without the path of an image; left out"))
                    continue
                path = self._inside(item["image"], where)
                if seen.setdefault(path, split) != split:
                    reason = f"{path} is in the list {seen[path]!r} too, which counts; left out"
                    self.skips.append(Skip(where, reason))
                    continue
                grouped.setdefault(path, []).append({**item, "where": where})
            for path, found in grouped.items():
                yield self._study(path, split, found, labels)

    def _read(self) -> dict[str, list[Any]]:
        if not self.file.is_file():
            raise FileNotFoundError(f"{self.file} is not there; set data.source.file")
        try:
            told = json.loads(self.file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{self.file} is not JSON: {error}") from error
        lists = told if isinstance(told, dict) else {}
        lists = {split: lists[split] for split in SPLIT if isinstance(lists.get(split), list)}
        if not any(lists.values()):
            found = sorted(map(str, told))[:5] if isinstance(told, dict) else type(told).__name__
            raise ValueError(
                f'{self.file} has {found}, expected {{"train": [...], "validation": [...]}} with '
                "items"
            )
        return lists

    def _inside(self, name: str, where: str) -> Path:
        told = name.replace("\\", "/")
        if self.prefix and told.startswith(self.prefix):
            told = told[len(self.prefix) :].lstrip("/")
        root = self.root.resolve()
        path = Path(told) if Path(told).is_absolute() else root / told
        if "\0" in told or not path.resolve().is_relative_to(root):
            raise ValueError(
                f"{where} names {name!r}, which is not in {root}; paths are relative to "
                "data.source.root or lie in it: set data.source.prefix to what they began with "
                "where the file was written"
            )
        return path

    def _study(
        self, path: Path, split: str, items: list[Item], labels: dict[str, dict[str, int]]
    ) -> StudyRecord:
        place = path.resolve().relative_to(self.root.resolve()).as_posix()
        scan_id = place.removesuffix(IMAGE_SUFFIX).removesuffix(".npy")
        name, first = scan_id.rpartition("/")[2], items[0]
        features = first.get("biomedclip_features")
        arrays = {}
        if isinstance(features, str):
            arrays["slice_features"] = self._inside(features, first["where"])
        # places in mm count voxels: the published files have lost their spacing
        scan = ScanRecord(
            scan_id=scan_id,
            path=path,
            spacing_mm=(1.0, 1.0, 1.0),
            orientation=self.orientation,
            arrays=arrays,
        )
        return StudyRecord(
            study_id=scan.scan_id,
            patient_id=_patient(name),
            split=SPLIT[split],
            scans=(scan,),
            texts=self._texts(items),
            labels=labels.get(name, dict.fromkeys(self.label_names, -1)),
            questions=tuple(question for item in items for question in self._questions(item)),
        )

    def _texts(self, items: list[Item]) -> dict[str, str]:
        texts = [str(item["text"]).strip() for item in items if not is_empty(item.get("text"))]
        asked = any("abnormality" in item for item in items)
        if not texts and not asked:
            reason = "the report is empty: not for training, kept for evaluation"
            self.skips.append(Skip(items[0]["where"], reason))
        if len(set(texts)) > 1:
            reason = f"{len(set(texts))} different reports of one volume; the first counts"
            self.skips.append(Skip(items[0]["where"], reason))
        return {"findings": texts[0]} if texts else {}

    def _questions(self, item: Item) -> Iterator[Question]:
        told = item.get("abnormality"), item.get("anatomy")
        if told == (None, None):
            return
        if not all(isinstance(text, str) and not is_empty(text) for text in told):
            reason = f"abnormality is {told[0]!r} and anatomy {told[1]!r}: no question of it"
            self.skips.append(Skip(item["where"], reason))
            return
        subject, answer = map(str, told)
        question = _LOCATION.replace("{abnormality}", subject)
        yield Question(question, answer, kind="location", subject=subject)

    def _labels(self) -> dict[str, dict[str, int]]:
        return {
            row["VolumeName"].split(".")[0]: {
                name: {"0": 0, "1": 1}.get(row[name].strip().removesuffix(".0"), -1)
                for name in self.label_names
            }
            for path in self.labels
            for row in read_table(path, ("VolumeName", *self.label_names))
        }


def _patient(name: str) -> str:
    """Tell the patient of a volume.

    >>> _patient("train_12_a_1"), _patient("sub-S03047_ses-E07985_run-1_bp-chest_ct"), _patient("x")
    ('train_12', 'sub-S03047', 'x')
    """
    if match := VOLUME_NAME.fullmatch(f"{name}.nii.gz"):
        return match[1]
    return name.partition("_ses-")[0]
