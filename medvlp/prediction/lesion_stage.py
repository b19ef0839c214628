"""A stage of HCL-AL from a checkpoint: of medvlp.train, or as published."""

from collections.abc import Sequence
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
from medvlp.prediction.loaded_model import load_model


def load_stage(
    checkpoint: Path,
    stage: Literal["coarse", "fine"],
    *,
    overrides: Sequence[str] = (),
    compat: Literal["published"] | None = None,
) -> LesionStage:
    """Build a stage and load its weights, strictly.

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
    loaded = load_model(checkpoint, overrides=overrides)
    model, recipe = loaded.model, loaded.recipe
    if not isinstance(model, HCLAL) or not isinstance(recipe, LesionRecipe):
        raise ValueError(
            f"{checkpoint} has a {type(model).__name__} of {type(recipe).__name__} "
            f"({loaded.experiment}): lesions are localised by HCL-AL"
        )
    if stage not in recipe.grids:
        raise ValueError(
            f"{checkpoint} was trained on the {' and '.join(recipe.grids)} patch "
            f"({loaded.experiment}): it is not the {stage} stage"
        )
    return LesionStage(model, recipe, loaded.tokenizer)


def _published(
    file: WeightFile,
    stage: Literal["coarse", "fine"],
    overrides: Sequence[str],
    compat: Literal["published"] | None,
) -> LesionStage:
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
    model: Any = build_model(tree["model"])
    load_weights(model, file.path)  # by its path, which its errors then name
    return LesionStage(model.eval(), recipe, instantiate(tree["tokenizer"], _convert_="all"))
