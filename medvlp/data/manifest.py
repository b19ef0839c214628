"""What a cache folder holds: studies.jsonl (one study a line) and dataset.json (the whole)."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from medvlp.data.cache import VolumeCache, write_atomically
from medvlp.data.records import SPLITS

Row = dict[str, Any]

_SCHEMA = 1
_STUDIES, _DATASET = "studies.jsonl", "dataset.json"


class Manifest:
    """The prepared studies of one data set under one recipe.

    The lines stay bytes in one array until they are asked for: many loader workers share it, and
    memory does not grow with their number.

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
        self.counts: dict[str, int] = dataset["counts"]
        self.skips: dict[str, int] = dataset["skips"]
        self._lines = np.fromfile(folder / _STUDIES, dtype=np.uint8)
        self._ends = np.flatnonzero(self._lines == ord("\n"))

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index: int) -> Row:
        """Decode one study: study_id, patient_id, split, scans, texts, labels, metadata."""
        if not 0 <= index < len(self):
            raise IndexError(f"study {index} of {len(self)}")
        start = 0 if index == 0 else int(self._ends[index - 1]) + 1
        return json.loads(self._lines[start : int(self._ends[index])].tobytes())


def dataset_folder(cache_dir: Path, name: str, recipe_hash: str) -> Path:
    """Say where a data set under a recipe lies, so that several stand side by side."""
    return Path(cache_dir) / name / recipe_hash


def is_prepared(folder: Path) -> bool:
    """Tell whether both files are there and belong together."""
    studies, dataset = folder / _STUDIES, folder / _DATASET
    if not (studies.is_file() and dataset.is_file()):
        return False
    stated = json.loads(dataset.read_text(encoding="utf-8"))
    digest = hashlib.sha256(studies.read_bytes()).hexdigest()
    return stated.get("schema") == _SCHEMA and stated.get("studies_sha256") == digest


def write_manifest(folder: Path, rows: Iterable[Row], dataset: Mapping[str, Any]) -> Manifest:
    """Write both files, dataset.json last: its hash of studies.jsonl makes the pair valid.

    Args:
        folder: See `dataset_folder`.
        rows: One study each, in JSON types.
        dataset: name, source, label_names, recipe, recipe_hash, skips.
    """
    rows = list(rows)
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    counts = {"studies": len(rows), "scans": sum(len(row["scans"]) for row in rows)}
    counts["patients"] = len({row["patient_id"] for row in rows})
    counts |= {split: sum(row["split"] == split for row in rows) for split in SPLITS}
    stated = {
        "schema": _SCHEMA,
        **dataset,
        "counts": counts,
        "studies_sha256": hashlib.sha256(lines).hexdigest(),
    }
    write_atomically(folder / _STUDIES, lines)
    write_atomically(folder / _DATASET, (json.dumps(stated, indent=2) + "\n").encode())
    return Manifest(folder)
