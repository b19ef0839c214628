"""What a cache folder holds: studies.parquet (one study a row) and dataset.json (the whole)."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from medvlp.data.cache import VolumeCache, write_atomically
from medvlp.data.manifest_table import Row, StudyTable, to_parquet
from medvlp.data.records import SPLITS

_SCHEMA = 2
_STUDIES, _DATASET = "studies.parquet", "dataset.json"


class Manifest:
    """The prepared studies of one data set under one recipe.

    Rows are made when they are asked for: many loader workers share one table, and memory grows
    neither with their number nor with use.

    Args:
        folder: See `dataset_folder`.

    Raises:
        FileNotFoundError: If nothing was prepared there, or not to the end.
    """

    def __init__(self, folder: Path) -> None:
        if not is_prepared(folder):
            raise FileNotFoundError(
                f"{folder} holds no complete manifest; run: python -m medvlp.prepare"
            )
        self.folder = folder
        self.cache = VolumeCache(folder / "volumes")
        dataset = json.loads((folder / _DATASET).read_text(encoding="utf-8"))
        self.name: str = dataset["name"]
        self.source: Row = dataset["source"]
        self.label_names: tuple[str, ...] = tuple(dataset["label_names"])
        self.recipe: Row = dataset["recipe"]
        self.recipe_hash: str = dataset["recipe_hash"]
        self.fields: tuple[str, ...] = tuple(dataset.get("fields", ["image"]))
        self.counts: dict[str, int] = dataset["counts"]
        self.skips: dict[str, int] = dataset["skips"]
        self.table = StudyTable(folder / _STUDIES, self.label_names)

    def __len__(self) -> int:
        return self.table.num_rows

    def __getitem__(self, index: int) -> Row:
        """Decode one study.

        Returns:
            study_id, patient_id, split, scans, texts, labels, metadata, questions, lesions.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"study {index} of {len(self)}")
        return self.table.row(index)

    def __iter__(self) -> Iterator[Row]:
        return (self.table.row(index) for index in range(len(self)))

    def __reduce__(self) -> tuple[type["Manifest"], tuple[Path]]:
        return Manifest, (self.folder,)  # another process reads its own


def dataset_folder(cache_dir: Path, name: str, recipe_hash: str) -> Path:
    """Say where a data set under a recipe lies, so that several stand side by side."""
    return Path(cache_dir) / name / recipe_hash


def is_prepared(folder: Path) -> bool:
    """Tell whether both files are there and belong together."""
    studies, dataset = folder / _STUDIES, folder / _DATASET
    if not (studies.is_file() and dataset.is_file()):
        return False
    try:
        stated = json.loads(dataset.read_text(encoding="utf-8"))
    except ValueError:
        return False
    if not isinstance(stated, dict):
        return False
    digest = hashlib.sha256(studies.read_bytes()).hexdigest()
    return (stated.get("schema"), stated.get("studies_sha256")) == (_SCHEMA, digest)


def write_manifest(folder: Path, rows: Iterable[Row], dataset: Mapping[str, Any]) -> Manifest:
    """Write both files, dataset.json last: its hash of the other makes the pair valid.

    Args:
        folder: See `dataset_folder`.
        rows: One study each, in JSON types.
        dataset: name, source, label_names, recipe, recipe_hash, skips, fields.
    """
    rows = list(rows)
    studies = to_parquet(rows, dataset["label_names"])
    counts = {"studies": len(rows), "scans": sum(len(row["scans"]) for row in rows)}
    counts["patients"] = len({row["patient_id"] for row in rows})
    counts |= {split: sum(row["split"] == split for row in rows) for split in SPLITS}
    stated = {
        "schema": _SCHEMA,
        **dataset,
        "counts": counts,
        "studies_sha256": hashlib.sha256(studies).hexdigest(),
    }
    write_atomically(folder / _STUDIES, studies)
    write_atomically(folder / _DATASET, (json.dumps(stated, indent=2) + "\n").encode())
    return Manifest(folder)
