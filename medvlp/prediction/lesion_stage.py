"""A stage of HCL-AL from a checkpoint: of medvlp.train, or as published."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from hydra.utils import instantiate

from medvlp import config
from medvlp.callbacks.provenance import CHECKPOINT_KEY
from medvlp.checkpoints.files import WeightFile, open_weights
from medvlp.checkpoints.hcl_al_facts import hcl_al_facts, stored_recipe
from medvlp.checkpoints.model_configs import build_model
from medvlp.checkpoints.systems import load_weights
from medvlp.data.lesion_recipe import LesionRecipe
from medvlp.models.hcl_al import HCLAL
from medvlp.prediction.lesion_localiser import LesionStage
from medvlp.prediction.loaded_model import load_model

_TOWERS = {
    "ResidualNet": "medvlp.vision.volume_cnn.ResidualNet",
    "BasicNet": "medvlp.vision.volume_cnn.BasicNet",
}


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
        overrides: key=value of the experiment's tree, or of the published model's.
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
        chosen = [*_choices(file), *overrides]
        recipe = stored_recipe(file.beside, stage, compat=compat)
    except ValueError as error:
        raise ValueError(f"{file.path}: {error}") from error
    chosen.append(f"model.vision.image_size={list(recipe.size)}")
    tree = config.plain(
        config.compose([f"model=hcl_al_{stage}", *chosen], "checkpoints"), interpolate=True
    )
    model: Any = build_model(tree["model"])
    load_weights(model, file.tensors)
    return LesionStage(model, recipe, instantiate(tree["tokenizer"], _convert_="all"))


def _choices(file: WeightFile) -> list[str]:
    """Say as overrides in what a file differs from the released ones.

    Raises:
        ValueError: If it is another network than these can be.
    """
    facts = hcl_al_facts({name: list(tensor.shape) for name, tensor in file.tensors.items()})
    if facts is None:
        raise ValueError(
            "these are neither weights of HCL-AL as published nor a checkpoint of medvlp.train"
        )
    image, text = facts["image encoder"], facts["text encoder"]
    if image not in _TOWERS or text != "CLIP":
        raise ValueError(
            f"a {image} with text tower {text}: files as published are localised with if they "
            f"have a {' or '.join(_TOWERS)} and CLIP's texts; train with init=published "
            "init.path=FILE to wrap others in a checkpoint of medvlp.train"
        )
    projection = list(file.tensors["image_encoder.fc.weight"].shape)
    table = list(file.tensors["text_encoder.positional_embedding"].shape)
    chosen = {
        "vision._target_": _TOWERS[image],
        "vision.base_channels": facts["width"],
        "vision.in_channels": facts["channels"],
        "image_projection.in_features": projection[1],
        "image_projection.out_features": projection[0],
        "text.vocab_size": facts["text vocabulary"],
        "text.context_length": table[0],
        "text.width": facts["text width"],
        "text.depth": facts["text layers"],
        "text.num_heads": max(1, facts["text width"] // 64),  # CLIP's rule
        "text.embed_dim": file.tensors["text_encoder.text_projection"].shape[1],
    }
    if facts["text fc"]:
        wide, narrow = file.tensors["text_fc.weight"].shape
        chosen["text_fc"] = (
            f"{{_target_: torch.nn.Linear, in_features: {narrow}, out_features: {wide}}}"
        )
    return [f"model.{key}={value}" for key, value in chosen.items()] + [
        f"tokenizer.context_length={table[0]}"
    ]
