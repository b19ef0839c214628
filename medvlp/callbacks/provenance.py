"""Where a run came from: written beside its outputs and into its checkpoints."""

import importlib.metadata
import json
import platform
import subprocess
from collections.abc import Sequence
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
        allow_recipe: Fields of the recipe that may differ from the checkpoint's, for evaluation.

    Attributes:
        recipe_changes: Those that do: their values in the checkpoint and now.
    """

    def __init__(
        self, tree: dict[str, Any], source: dict[str, Any], *, allow_recipe: Sequence[str] = ()
    ) -> None:
        self.tree = tree
        self.source = source
        self.allow_recipe = tuple(allow_recipe)
        self.recipe_changes: dict[str, list[Any]] = {}
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
        before, now = trained["fields"], current["fields"]
        unknown = [name for name in self.allow_recipe if name not in before | now]
        if unknown:
            raise ValueError(
                f"the recipe has no field {', '.join(unknown)} that could be allowed to differ; "
                f"it has {', '.join(now)}"
            )
        if trained["hash"] == current["hash"]:
            return
        changes = {
            key: [before.get(key), now.get(key)]
            for key in sorted(before | now)
            if before.get(key) != now.get(key)
        }
        refused = {key: pair for key, pair in changes.items() if key not in self.allow_recipe}
        if refused or not changes:
            raise ValueError(_refusal(trained["hash"], current["hash"], refused))
        self.recipe_changes = changes


def _refusal(trained: str, current: str, refused: dict[str, list[Any]]) -> str:
    rows = [f"  {key:<24} {before!s:<28} {now}" for key, (before, now) in refused.items()]
    return (
        f"the checkpoint was trained under recipe {trained}, the data were prepared "
        f"under {current}; they differ in\n  {'':<24} {'checkpoint':<28} data\n"
        + "\n".join(rows)
        + "\nprepare the data under the checkpoint's recipe, or train on this one; an evaluation "
        f"may differ on purpose with --allow_recipe={','.join(refused)}"
    )


def _recipe(trainer: pl.Trainer) -> dict[str, Any]:
    """Read the recipe of the run's DataModule."""
    recipe = trainer.datamodule.recipe  # pyright: ignore[reportAttributeAccessIssue]
    return {"hash": recipe.hash, "fields": recipe.describe()}
