"""What a test run leaves behind: result files, predictions, plots and a table in the terminal."""

import hashlib
from pathlib import Path

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback

from medvlp.callbacks.provenance import Provenance
from medvlp.evaluation.plots import write_plots
from medvlp.evaluation.report import print_table, to_markdown, write_predictions
from medvlp.evaluation.results import Results


class ResultsWriter(Callback):
    """Write every result of a test to the run folder and print its table.

    For the evaluation NAME: `NAME/results.json`, `NAME/table.md`, `NAME/predictions.csv` and
    plots.

    Args:
        folder: The run folder.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write and print, on the first rank."""
        if not trainer.is_global_zero:
            return
        run = next(item for item in trainer.callbacks if isinstance(item, Provenance))  # pyright: ignore[reportAttributeAccessIssue]
        loaded = trainer.ckpt_path or getattr(pl_module, "weights_path", None)
        weights = file_hash(loaded) if loaded else None
        results: dict[str, Results] = pl_module.results  # pyright: ignore[reportAssignmentType]
        for name, result in results.items():
            stamped = result.with_provenance(
                checkpoint_hash=weights, commit=run.commit, seed=run.tree["seed"]
            )
            folder = self.folder / name
            stamped.to_json(folder / "results.json")
            (folder / "table.md").write_text(to_markdown(stamped))
            if stamped.predictions:  # a task of which no study is there has none
                write_predictions(stamped, folder / "predictions.csv")
            write_plots(stamped, folder)
            print_table(stamped)
        trainer.print(f"results, predictions and plots: {self.folder}")


def file_hash(path: str | Path) -> str:
    """Return the first 16 hexadecimal digits of a file's SHA-256."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]
