"""Where a run came from: written beside its outputs and into its checkpoints."""

import importlib.metadata
import json
import platform
import subprocess
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
import yaml
from lightning.pytorch.callbacks import Callback

CHECKPOINT_KEY = "medvlp"
"""The entry of a checkpoint that carries the resolved tree, the recipe and the commit."""


def current_commit() -> str:
    """Return the commit of the installed sources, with `-dirty` if they differ from it.

    `version X.Y.Z` where the package does not lie in a git checkout.
    """
    folder = Path(__file__).resolve().parents[2]
    if (folder / ".git").exists():
        command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40"]
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
        if answer.returncode == 0:
            return answer.stdout.strip()
    return f"version {importlib.metadata.version('medvlp')}"


class Provenance(Callback):
    """Write the resolved tree, commit and recipe to the run folder and into every checkpoint.

    A checkpoint whose recipe differs from the data's is refused: the field loses more accuracy to
    preprocessing mistakes than to models.

    Args:
        tree: The resolved configuration.
        source: The same with its interpolations, so that a later override reaches all it should.
    """

    def __init__(self, tree: dict[str, Any], source: dict[str, Any]) -> None:
        self.tree = tree
        self.source = source
        self.folder = Path(tree["paths"]["run"])
        self.commit = current_commit()

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Write `config.yaml` and `provenance.json` once, on the first rank."""
        if stage != "fit" or not trainer.is_global_zero:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "config.yaml").write_text(yaml.safe_dump(self.tree, sort_keys=False))
        facts = {
            "commit": self.commit,
            "recipe_hash": _recipe(trainer)["hash"],
            "seed": self.tree["seed"],
            "world_size": trainer.world_size,
            "strategy": type(trainer.strategy).__name__,
            "precision": trainer.precision,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "lightning": importlib.metadata.version("lightning"),
            "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        }
        (self.folder / "provenance.json").write_text(json.dumps(facts, indent=2) + "\n")

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add both trees, the recipe and the commit."""
        checkpoint[CHECKPOINT_KEY] = {
            "config": self.tree,
            "source": self.source,
            "recipe": _recipe(trainer),
            "commit": self.commit,
        }

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Refuse weights that were trained under another preprocessing recipe.

        Raises:
            ValueError: With both recipes side by side.
        """
        trained = checkpoint.get(CHECKPOINT_KEY, {}).get("recipe")
        if trained is None:
            return
        current = _recipe(trainer)
        if trained["hash"] == current["hash"]:
            return
        rows = [
            f"  {key:<24} {trained['fields'].get(key)!s:<28} {current['fields'].get(key)}"
            for key in sorted(trained["fields"] | current["fields"])
            if trained["fields"].get(key) != current["fields"].get(key)
        ]
        raise ValueError(
            f"the checkpoint was trained under recipe {trained['hash']}, the data were prepared "
            f"under {current['hash']}; they differ in\n  {'':<24} {'checkpoint':<28} data\n"
            + "\n".join(rows)
            + "\nprepare the data under the checkpoint's recipe, or train on this one"
        )


def _recipe(trainer: pl.Trainer) -> dict[str, Any]:
    """Read the recipe of the run's DataModule."""
    recipe = trainer.datamodule.recipe  # pyright: ignore[reportAttributeAccessIssue]
    return {"hash": recipe.hash, "fields": recipe.describe()}
