"""The Parquet manifest: what goes in comes out, fast, and memory does not grow."""

import multiprocessing
import pickle
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from medvlp.data.manifest import Manifest, is_prepared, write_manifest

LABELS = ("Lung nodule", "Cardiomegaly", "study_id")  # a label may be called like a column


def scan(scan_id: str) -> dict[str, Any]:
    return {
        "scan_id": scan_id,
        "shape": [5, 15, 12],
        "raw_shape": [12, 10, 8],
        "raw_spacing_mm": [2.0, 1.5, 0.7],
        "raw_orientation": "SPL",
        "modality": "CT",
        "range": [-1000.5, 80.0],
        "affine": np.eye(4).tolist(),
        "note": "größer",
    }


def row(number: int, num_scans: int = 2) -> dict[str, Any]:
    return {
        "study_id": f"s{number}",
        "patient_id": f"p{number // 2}",
        "split": "train" if number % 4 else "test",
        "scans": [scan(f"s{number}_{index}") for index in range(num_scans)],
        "texts": {"findings": "A nodule, 3 mm.\nNo effusion.", "impression": "Nodule"},
        "labels": {name: (number + k) % 3 - 1 for k, name in enumerate(LABELS)},
        "metadata": {"sex": "F", "age": "50"} if number % 2 else {},
        "questions": [
            {
                "question": "Where?",
                "answer": "left",
                "kind": "location",
                "choices": ["left", "right"],
                "subject": "nodule",
            }
        ],
        "lesions": [
            {
                "lesion_id": "1",
                "box_mm": [1.5, -2.0, 3.0, 4.0, 5.0, 6.25],
                "label": 3,
                "place": "left lower lobe",
                "coarse": "lung",
                "fine": "lower lobe",
            }
        ],
    }


def write(folder: Path, rows: list[dict[str, Any]]) -> Manifest:
    dataset = {"name": "x", "source": {}, "label_names": list(LABELS), "skips": {}}
    dataset |= {"recipe": {}, "recipe_hash": "0", "fields": ["image"]}
    return write_manifest(folder, rows, dataset)


def test_rows_come_back_as_they_went_in(tmp_path: Path) -> None:
    rows = [row(number) for number in range(8)]
    manifest = write(tmp_path, rows)
    assert list(manifest) == rows
    assert manifest.counts == {
        "studies": 8, "scans": 16, "patients": 4, "train": 6, "val": 0, "test": 2,
    }  # fmt: skip
    with pytest.raises(IndexError, match="study 8 of 8"):
        manifest[8]


def test_what_a_scan_does_not_state_stays_unstated(tmp_path: Path) -> None:
    sparse = row(0)
    sparse["scans"] = [{"scan_id": "only", "shape": [1, 2, 3]}]
    sparse["labels"] = {}
    (back,) = list(write(tmp_path, [sparse]))
    assert back["scans"] == [{"scan_id": "only", "shape": [1, 2, 3]}]
    assert back["labels"] == dict.fromkeys(LABELS, -1)


def test_equal_rows_give_equal_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / name, [row(number) for number in range(5)])
    for name in ("studies.parquet", "dataset.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_pandas_opens_it(tmp_path: Path) -> None:
    write(tmp_path, [row(number) for number in range(6)])
    frame = pd.read_parquet(tmp_path / "studies.parquet")
    assert frame["label:Cardiomegaly"].tolist() == [0, 1, -1, 0, 1, -1]
    assert frame["label:Cardiomegaly"].dtype == np.int8
    assert frame["scans"][0][0]["raw_orientation"] == "SPL"
    assert dict(frame["texts"][1])["impression"] == "Nodule"


def test_a_manifest_travels_to_another_process(tmp_path: Path) -> None:
    manifest = write(tmp_path, [row(number) for number in range(3)])
    stream = pickle.dumps(manifest)
    assert len(stream) < 1000 and pickle.loads(stream)[2] == manifest[2]


@pytest.mark.parametrize("damage", ["{", "{}", "[]"])
def test_a_damaged_account_is_no_manifest(tmp_path: Path, damage: str) -> None:
    write(tmp_path, [row(0)])
    assert is_prepared(tmp_path)
    (tmp_path / "dataset.json").write_text(damage)
    assert not is_prepared(tmp_path)


def test_rows_are_quick_and_leave_nothing_behind(tmp_path: Path) -> None:
    rows = [row(number) for number in range(1000)]
    for entry in rows:
        entry["texts"]["findings"] *= 50
    manifest = write(tmp_path, rows)
    manifest[0]
    started = time.process_time()
    for index in range(1000):
        manifest[index]
    assert (time.process_time() - started) / 1000 < 0.3e-3
    results = multiprocessing.get_context("fork").Queue()
    worker = multiprocessing.get_context("fork").Process(target=_grow, args=(manifest, results))
    worker.start()
    grown = results.get(timeout=60)
    worker.join()
    assert grown < 1e6  # bytes of the worker's own, after 20,000 rows


def _grow(manifest: Manifest, results: Any) -> None:
    for index in range(1000):
        manifest[index]
    before = _own_bytes()
    for index in range(20_000):
        manifest[index % 1000]
    results.put(_own_bytes() - before)


def _own_bytes() -> int:
    text = Path("/proc/self/smaps_rollup").read_text()
    fields = dict(line.split(":", 1) for line in text.splitlines()[1:])
    return 1024 * sum(int(fields[name].split()[0]) for name in ("Private_Dirty", "Private_Clean"))
