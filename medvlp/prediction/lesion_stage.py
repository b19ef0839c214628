"""A stage of HCL-AL from a checkpoint: of medvlp.train, or as published."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from hydra.utils import instantiate

from medvlp import config
from medvlp.callbacks.provenance import CHECKPOINT_KEY
from medvlp.checkpoints.files import WeightFile, open_weights
from medvlp.checkpoints.hcl_al_container import stored_recipe
from medvlp.checkpoints.hcl_al_tree import TOKENIZERS, hcl_al_tree
from medvlp.checkpoints.model_configs import build_model
from medvlp.checkpoints.systems import load_weights
from medvlp.data.lesion_recipe import LesionRecipe
from medvlp.models.hcl_al import HCLAL
from medvlp.prediction.lesion_localiser import LesionStage
from medvlp.prediction.loaded_model import OpenedModel, open_model


@dataclass(frozen=True, eq=False)
class OpenedStage:
    """A stage whose patches are known; its model is not built yet.

    Attributes:
        recipe: Has the grid of the stage.
        load: Builds the model and loads its weights, strictly.
    """

    recipe: LesionRecipe
    load: Callable[[], LesionStage]


def load_stage(
    checkpoint: Path,
    stage: Literal["coarse", "fine"],
    *,
    overrides: Sequence[str] = (),
    compat: Literal["published"] | None = None,
) -> LesionStage:
    """Build a stage and load its weights, strictly; see `open_stage`."""
    return open_stage(checkpoint, stage, overrides=overrides, compat=compat).load()


def open_stage(
    checkpoint: Path,
    stage: Literal["coarse", "fine"],
    *,
    overrides: Sequence[str] = (),
    compat: Literal["published"] | None = None,
) -> OpenedStage:
    """Read what a stage sees, which takes a moment; its `load` takes the rest.

    Args:
        checkpoint: Of medvlp.train, which carries its recipe; or a published params.pth, which
            states its patches.
        stage: Which one it is.
        overrides: key=value of the experiment's tree, or of a published file's model and
            tokenizer.
        compat: Geometry of published files, see `LesionRecipe`; a checkpoint of medvlp.train has
            its own.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it holds another model, or patches of the other stage.
    """
    file = open_weights(checkpoint)
    if CHECKPOINT_KEY not in file.beside:
        return _published(file, stage, overrides, compat)
    opened = open_model(checkpoint, overrides=overrides)
    recipe, experiment = opened.recipe, opened.tree["name"]
    if not isinstance(recipe, LesionRecipe):
        name = str(opened.tree["model"]["_target_"]).rpartition(".")[2]
        raise ValueError(_other_model(checkpoint, name, recipe, experiment))
    if stage not in recipe.grids:
        raise ValueError(
            f"{checkpoint} was trained on the {' and '.join(recipe.grids)} patch "
            f"({experiment}): it is not the {stage} stage"
        )
    return OpenedStage(recipe, partial(_load, opened, recipe))


def _load(opened: OpenedModel, recipe: LesionRecipe) -> LesionStage:
    loaded = opened.load()
    model, path = loaded.model, opened.file.path
    if not isinstance(model, HCLAL):
        raise ValueError(_other_model(path, type(model).__name__, recipe, loaded.experiment))
    return LesionStage(model, recipe, loaded.tokenizer)


def _other_model(path: Path, model: str, recipe: object, experiment: str) -> str:
    kind = type(recipe).__name__
    return f"{path} has a {model} of {kind} ({experiment}): lesions are localised by HCL-AL"


def _published(
    file: WeightFile,
    stage: Literal["coarse", "fine"],
    overrides: Sequence[str],
    compat: Literal["published"] | None,
) -> OpenedStage:
    try:
        recipe = stored_recipe(file.beside, stage, compat=compat)
        shapes = {name: list(tensor.shape) for name, tensor in file.tensors.items()}
        read = hcl_al_tree(shapes, recipe.size, file.beside.get("heads"))
        tree = config.plain(config.override_tree(read, overrides))
        channels = tree["model"]["vision"]["in_channels"]
        if channels != len(recipe.channels):
            raise ValueError(
                f"its weights see {channels} channels, and it states {len(recipe.channels)} "
                "crop_normalizers; download it again"
            )
        if tree["tokenizer"].get("name_or_path", "") is None:
            net = str(file.beside.get("net", "")).partition("_")[0]
            folder = TOKENIZERS.get(net, " or ".join(TOKENIZERS.values()))
            raise ValueError(
                "its texts go through a BERT, whose tokenizer is a folder of its own: --set "
                f"tokenizer.name_or_path=FOLDER (published: {folder})"
            )
    except ValueError as error:
        raise ValueError(f"{file.path}: {error}") from error
    return OpenedStage(recipe, partial(_load_published, file.path, tree, recipe))


def _load_published(path: Path, tree: Mapping[str, Any], recipe: LesionRecipe) -> LesionStage:
    model: Any = build_model(tree["model"])
    load_weights(model, path)  # by its path, which its errors then name
    return LesionStage(model.eval(), recipe, instantiate(tree["tokenizer"], _convert_="all"))
