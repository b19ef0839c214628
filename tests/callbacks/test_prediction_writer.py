"""What `evaluate predict` leaves of scores and of texts."""

import csv
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
from rich.console import Console

from medvlp.callbacks.prediction_writer import PredictionWriter

FACTS = {"sample_id": ["a_1", "b_1"], "study_id": ["a", "b"], "num_scans": [1, 1]}


class Trainer(pl.Trainer):
    def __init__(self) -> None: ...

    @property
    def is_global_zero(self) -> bool:
        return True

    def print(self, *texts: Any, **_: Any) -> None:
        Console().print(*texts)


def written(folder: Path, *outputs: dict[str, Any]) -> list[dict[str, str]]:
    PredictionWriter(folder).write_on_epoch_end(Trainer(), pl.LightningModule(), outputs, [])
    with (folder / "predictions.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_texts_stand_beside_their_questions_and_the_truth(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = {
        "question": ["What is seen?", "Where [it is]?"],
        "generated": ['The "heart",\nenlarged.', ""],
        "truth": ["No effusion.", "lung"],
    }
    first, second = written(tmp_path, FACTS | texts)
    assert list(first) == ["study_id", "sample_id", "num_scans", "question", "generated", "truth"]
    assert first["generated"] == 'The "heart",\nenlarged.' and first["truth"] == "No effusion."
    assert second == {
        "study_id": "b",
        "sample_id": "b_1",
        "num_scans": "1",
        "question": "Where [it is]?",
        "generated": "",
        "truth": "lung",
    }
    assert "Where [it is]?" in capsys.readouterr().out


def test_each_class_has_a_column_and_each_sample_a_row(tmp_path: Path) -> None:
    scores = {"class_names": ["x", "y"], "probabilities": [[0.25, float("nan")], [0.5, 0.75]]}
    rows = written(tmp_path, FACTS | scores, FACTS | scores)
    assert [(row["sample_id"], row["x"], row["y"]) for row in rows] == [
        ("a_1", "0.25", "nan"),
        ("b_1", "0.5", "0.75"),
    ]
