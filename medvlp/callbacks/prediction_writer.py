"""What a prediction run leaves behind: one row of probabilities for each study."""

import csv
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import BasePredictionWriter
from rich.console import Console
from rich.table import Table

from medvlp.distributed.gather import gather_objects

_FACTS = ("study_id", "sample_id", "num_scans")


class PredictionWriter(BasePredictionWriter):
    """Write `predictions.csv` and print the top classes.

    Its columns: study, sample, how many scans were looked at, a probability per class; "nan" where
    the study does not show the organ of the class.

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
        """Show the most probable classes of the first studies."""
        table = Table("study", f"{self.top} most probable")
        for row in rows[:20]:
            scores = {key: row[key] for key in row if key not in _FACTS}
            scores = {key: score for key, score in scores.items() if not math.isnan(score)}
            best = sorted(scores, key=lambda name: -scores[name])[: self.top]
            table.add_row(
                row["sample_id"], ", ".join(f"{name} {scores[name]:.2f}" for name in best)
            )
        Console().print(table)


def _rows(predictions: Sequence[Any]) -> list[dict[str, Any]]:
    """Turn the outputs of `predict_step` into flat rows."""
    rows = []
    for output in predictions:
        facts = zip(*(output[key] for key in _FACTS), strict=True)
        for known, scores in zip(facts, output["probabilities"], strict=True):
            named = dict(zip(output["class_names"], scores, strict=True))
            rows.append(dict(zip(_FACTS, known, strict=True)) | named)
    return rows
