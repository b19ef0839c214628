"""A checkpoint read back: model, preprocessing recipe, tokenizer, and the tree they came from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import OmegaConf

from medvlp import config
from medvlp.callbacks.provenance import CHECKPOINT_KEY
from medvlp.checkpoints.files import WeightFile, open_weights
from medvlp.checkpoints.model_configs import without_pretrained
from medvlp.checkpoints.systems import load_weights
from medvlp.data.image_recipe import ImageRecipe
from medvlp.data.recipe import Recipe, require_same_recipe
from medvlp.models.fvlm import FVLM
from medvlp.models.hsenet_vlm import HSENetVLM
from medvlp.models.two_tower import TwoTower


@dataclass(frozen=True)
class LoadedModel:
    """What a checkpoint holds or names.

    Attributes:
        experiment: Name of the experiment.
        model: In evaluation mode.
        recipe: Of the checkpoint; that of images or that of volumes.
        tokenizer: Of the text tower.
        tree: The resolved configuration.
        facts: What a result says of its checkpoint, in JSON types.
    """

    experiment: str
    model: TwoTower | FVLM | HSENetVLM
    recipe: Recipe | ImageRecipe
    tokenizer: Any
    tree: Mapping[str, Any]
    facts: Mapping[str, Any]

    @property
    def two_tower(self) -> TwoTower:
        """Return a model of whole studies or images.

        Raises:
            ValueError: If it is one of organs, or one that writes.
        """
        if not isinstance(self.model, TwoTower):
            kind = "organs" if isinstance(self.model, FVLM) else "language"
            raise ValueError(
                f"{self.facts['file']} is a model of {kind} ({self.experiment}), one of whole "
                "studies or images is needed; medvlp.predict takes all"
            )
        return self.model


@dataclass(frozen=True, eq=False)
class OpenedModel:
    """A checkpoint whose tree was read; its model is not built yet.

    Attributes:
        file: Has the weights.
        recipe: Of the checkpoint; that of images or that of volumes.
        tree: The resolved configuration.
    """

    file: WeightFile
    recipe: Recipe | ImageRecipe
    tree: Mapping[str, Any]

    def load(self) -> LoadedModel:
        """Build the model and load its weights, strictly.

        Raises:
            ValueError: If it is none of ours, or the weights do not fit it.
        """
        return LoadedModel(
            experiment=str(self.tree["name"]),
            model=_model(self.tree, self.file),
            recipe=self.recipe,
            tokenizer=instantiate(self.tree["tokenizer"], _convert_="all"),
            tree=self.tree,
            facts=_facts(self.file, str(self.tree["name"])),
        )


def load_model(
    checkpoint: Path,
    *,
    experiment: str | None = None,
    overrides: Sequence[str] = (),
    needs_data: bool = False,
) -> LoadedModel:
    """Build the model of a checkpoint and load its weights, strictly; see `open_model`."""
    opened = open_model(
        checkpoint, experiment=experiment, overrides=overrides, needs_data=needs_data
    )
    return opened.load()


def open_model(
    checkpoint: Path,
    *,
    experiment: str | None = None,
    overrides: Sequence[str] = (),
    needs_data: bool = False,
) -> OpenedModel:
    """Read how the scans of a checkpoint are prepared, which takes a moment; `load` does the rest.

    Args:
        checkpoint: Of ours, which carries its experiment and recipe; or published weights.
        experiment: Takes model, recipe and prompts from an experiment of `conf/` instead.
            Published weights need it.
        overrides: key=value of the tree.
        needs_data: Whether the tree's data will be read: then its folders must be told.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is no checkpoint, carries no recipe and no experiment is named, or
            its recipe differs from the experiment's.
    """
    file = open_weights(checkpoint)
    carried = file.beside.get(CHECKPOINT_KEY)
    tree = _tree(checkpoint, carried, experiment, overrides, needs_data=needs_data)
    recipe = instantiate(tree["data"]["recipe"], _convert_="all")
    if carried is not None:
        require_same_recipe(
            recipe.describe(),
            carried["recipe"]["fields"],
            ours_from=experiment or "these overrides",
            theirs_from=checkpoint.name,
        )
    return OpenedModel(file, recipe, tree)


def _model(tree: Mapping[str, Any], file: WeightFile) -> TwoTower | FVLM | HSENetVLM:
    model = instantiate(without_pretrained(tree["model"]), _convert_="all")
    if not isinstance(model, TwoTower | FVLM | HSENetVLM):
        raise ValueError(
            f"a TwoTower, FVLM or HSENetVLM is needed, {file.path} has a {type(model).__name__}; "
            "choose another checkpoint or experiment"
        )
    load_weights(model, file.tensors)
    return model.eval()


def _tree(
    checkpoint: Path,
    carried: Mapping[str, Any] | None,
    experiment: str | None,
    overrides: Sequence[str],
    *,
    needs_data: bool,
) -> dict[str, Any]:
    if experiment is not None:
        cfg = config.compose([f"experiment={experiment}", *overrides])
    elif carried is None:
        raise ValueError(
            f"{checkpoint} carries no preprocessing recipe (it was not written by medvlp.train): "
            "scans can only be prepared as its network was trained if you name its experiment, "
            "as in --experiment=hlip_ctrate"
        )
    elif overrides:
        cfg = config.override_tree(carried["source"], overrides)
    else:
        return dict(carried["config"])
    for key in () if needs_data else OmegaConf.missing_keys(cfg):  # folders are not looked at
        if key.startswith(("paths.", "data.", "init.")):
            OmegaConf.update(cfg, key, "not-used")
    return config.resolve(cfg)


def _facts(file: WeightFile, experiment: str) -> dict[str, Any]:
    facts: dict[str, Any] = {"file": file.path.name, "layout": str(file.layout)}
    facts["experiment"] = experiment
    if (carried := file.beside.get(CHECKPOINT_KEY)) is not None:
        facts["commit"] = carried["commit"]
    if "global_step" in file.beside:
        facts["step"] = int(file.beside["global_step"])
    return facts
