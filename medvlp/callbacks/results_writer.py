"""What a test run leaves behind: result files, predictions, plots and a table in the terminal."""

import hashlib
from dataclasses import replace
from pathlib import Path

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback
from rich.console import Console

from medvlp.callbacks.provenance import Provenance
from medvlp.checkpoints.folders import look_into
from medvlp.evaluation.plots import write_plots
from medvlp.evaluation.published_files import write_published
from medvlp.evaluation.report import WIDTH, print_table, to_markdown, write_predictions
from medvlp.evaluation.results import Results
from medvlp.evaluation.text_examples import examples_markdown, examples_table, text_examples


class ResultsWriter(Callback):
    """Write every result of a test to the run folder and print its table.

    For the evaluation NAME: `NAME/results.json`, `NAME/table.md`, `NAME/predictions.csv` and
    plots; of generated texts also `NAME/examples.md`, five of them beside the true ones.

    Args:
        folder: The run folder.
        published_model: Also write the published files, `results/<data set>/<this name>/`.
    """

    def __init__(self, folder: str | Path, *, published_model: str | None = None) -> None:
        self.folder = Path(folder)
        self.published_model = published_model

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Compare the labels that evaluations expect with those of the data, before any work.

        Raises:
            ValueError: If they differ in names or order.
        """
        if stage == "predict":
            return
        data = getattr(trainer.datamodule, "label_names", ())  # pyright: ignore[reportAttributeAccessIssue]
        for name, evaluation in getattr(pl_module, "evaluations", {}).items():
            expected = getattr(evaluation, "label_names", None)
            if expected is not None and data and list(expected) != list(data):
                raise ValueError(
                    f"evaluation {name} expects the labels {', '.join(expected)}; the data have "
                    f"{', '.join(data)}; choose the evaluation of this data set, as in "
                    "--evaluation=rad_chestct, or set its label_names"
                )

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write and print, on the first rank."""
        if not trainer.is_global_zero:
            return
        run = next(item for item in trainer.callbacks if isinstance(item, Provenance))  # pyright: ignore[reportAttributeAccessIssue]
        loaded = trainer.ckpt_path or getattr(pl_module, "weights_path", None)
        weights = file_hash(loaded) if loaded else None
        results: dict[str, Results] = pl_module.results  # pyright: ignore[reportAssignmentType]
        for name, result in results.items():
            stamped = _with_reasons(result, trainer).with_provenance(
                checkpoint_hash=weights,
                commit=run.commit,
                seed=run.tree["seed"],
                input_size=input_size(trainer),
                recipe_changes=run.recipe_changes,
            )
            folder = self.folder / name
            stamped.to_json(folder / "results.json")
            (folder / "table.md").write_text(to_markdown(stamped))
            if stamped.predictions:  # a task of which no study is there has none
                write_predictions(stamped, folder / "predictions.csv")
            write_plots(stamped, folder)
            print_table(stamped)
            if examples := text_examples(stamped):
                (folder / "examples.md").write_text(examples_markdown(examples), encoding="utf-8")
                Console(width=WIDTH).print(examples_table(examples))
        if self.published_model is not None:
            write_published(results, self.folder, self.published_model)
        trainer.print(f"results, predictions and plots: {self.folder}")


def _with_reasons(results: Results, trainer: pl.Trainer) -> Results:
    """Say why a set that was not scored is missing, where the data know it."""
    sets = getattr(trainer.datamodule, "sets", {}).get("test", ())  # pyright: ignore[reportAttributeAccessIssue]
    reasons = {name: why for one in sets for name, why in getattr(one, "missing", {}).items()}
    skipped = {name: reasons.get(name, why) for name, why in results.skipped.items()}
    return replace(results, skipped=skipped)


def input_size(trainer: pl.Trainer) -> list[int] | None:
    """Return the lengths of what the network is shown along each axis, where the recipe has one."""
    size = getattr(trainer.datamodule.recipe, "size", None)  # pyright: ignore[reportAttributeAccessIssue]
    return list(size) if isinstance(size, list | tuple) else None


def file_hash(path: str | Path) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 of a file, or of a folder's weights."""
    digest = hashlib.sha256()
    for part in look_into(Path(path)).files if Path(path).is_dir() else [path]:
        with open(part, "rb") as file:
            hashlib.file_digest(file, lambda: digest)
    return digest.hexdigest()[:16]
