"""What a prediction run leaves behind: for each study a row of probabilities, or a text."""

import csv
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import BasePredictionWriter
from rich.console import Console
from rich.table import Table
from rich.text import Text

from medvlp.distributed.gather import gather_objects

_FACTS = ("study_id", "sample_id", "num_scans")
_TEXTS = ("question", "generated", "truth")
_SHOWN = 20


class PredictionWriter(BasePredictionWriter):
    """Write `predictions.csv` and print the top classes, or texts, of the first studies.

    Its columns: study, sample, how many scans were looked at, a probability per class; "nan" where
    the study does not show the organ of the class. Of a system that writes, in place of
    probabilities: question, what was generated, and the truth where the data have it.

    Args:
        folder: The run folder.
        top: How many classes the terminal shows for each study; the file has all.
    """

    def __init__(self, folder: str | Path, top: int = 5) -> None:
        super().__init__(write_interval="epoch")
        self.folder = Path(folder)
        self.top = top

    def write_on_epoch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        predictions: Sequence[Any],
        batch_indices: Sequence[Any],
    ) -> None:
        """Gather over ranks, drop what was scored twice, write and print."""
        rows = gather_objects(_rows(predictions))
        if not trainer.is_global_zero:
            return
        unique = list({row["sample_id"]: row for row in rows}.values())
        path = self.folder / "predictions.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=list(unique[0]))
            writer.writeheader()
            writer.writerows(unique)
        self._print(unique)
        trainer.print(f"{len(unique)} predictions: {path}")

    def _print(self, rows: Sequence[dict[str, Any]]) -> None:
        """Show the most probable classes, or the texts, of the first studies."""
        Console().print(_texts(rows) if "generated" in rows[0] else self._most_probable(rows))

    def _most_probable(self, rows: Sequence[dict[str, Any]]) -> Table:
        table = Table("study", f"{self.top} most probable")
        for row in rows[:_SHOWN]:
            scores = {key: row[key] for key in row if key not in _FACTS}
            scores = {key: score for key, score in scores.items() if not math.isnan(score)}
            best = sorted(scores, key=lambda name: -scores[name])[: self.top]
            table.add_row(
                row["sample_id"], ", ".join(f"{name} {scores[name]:.2f}" for name in best)
            )
        return table


def _texts(rows: Sequence[dict[str, Any]]) -> Table:
    table = Table("study", "question", "generated", show_lines=True)
    for row in rows[:_SHOWN]:
        table.add_row(*(Text(row[key]) for key in ("sample_id", "question", "generated")))
    return table


def _rows(predictions: Sequence[Any]) -> list[dict[str, Any]]:
    """Turn the outputs of `predict_step` into flat rows."""
    rows = []
    for output in predictions:
        keys = [*_FACTS, *(key for key in _TEXTS if key in output)]
        known = zip(*(output[key] for key in keys), strict=True)
        made = [dict(zip(keys, values, strict=True)) for values in known]
        if "probabilities" in output:
            for row, scores in zip(made, output["probabilities"], strict=True):
                row |= zip(output["class_names"], scores, strict=True)
        rows += made
    return rows
