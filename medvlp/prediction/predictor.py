"""A checkpoint, ready to be asked: model, preprocessing recipe and prompts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.utils import instantiate

from medvlp.data.brain_recipe import BrainRecipe
from medvlp.data.intensity import HounsfieldWindow, Percentiles
from medvlp.data.recipe import Recipe
from medvlp.evaluation.zero_shot import ZeroShotClassification
from medvlp.evaluation.zero_shot_task import ZeroShotTask
from medvlp.models.two_tower import TwoTower
from medvlp.prediction.loaded_model import LoadedModel, load_model

PromptedEvaluation = ZeroShotClassification | ZeroShotTask


@dataclass(frozen=True)
class Predictor:
    """What a study is predicted with.

    Attributes:
        experiment: Name of the experiment.
        model: In evaluation mode.
        recipe: Of the checkpoint.
        tokenizer: Of the text tower.
        evaluations: Those of the experiment that score by prompts.
        data: The data node of the tree.
        facts: What a result says of its checkpoint, in JSON types.
    """

    experiment: str
    model: TwoTower
    recipe: Recipe
    tokenizer: Any
    evaluations: Mapping[str, PromptedEvaluation]
    data: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def takes_several_scans(self) -> bool:
        """Whether the image tower was made for studies of several scans."""
        vision = self.model.vision
        levels = set(getattr(vision, "levels", ()))
        positions = getattr(vision, "scan_positions", None)
        return {"scan", "study"} <= levels or bool(getattr(positions, "has_table", False))

    @property
    def modality(self) -> str | None:
        """DICOM code of the scans that the recipe is for; None if it takes any."""
        if not isinstance(self.recipe, BrainRecipe):
            return "CT"
        if isinstance(self.recipe.intensity, HounsfieldWindow):
            return "CT"
        return "MR" if isinstance(self.recipe.intensity, Percentiles) else None


def load_predictor(
    checkpoint: Path, *, experiment: str | None = None, overrides: Sequence[str] = ()
) -> Predictor:
    """Build the model of a checkpoint and load its weights; see `load_model`.

    Raises:
        ValueError: If it is a model of images, or see `load_model`.
    """
    return predictor_of(load_model(checkpoint, experiment=experiment, overrides=overrides))


def predictor_of(loaded: LoadedModel) -> Predictor:
    """Make a model of volumes ready to be asked.

    Raises:
        ValueError: If it is a model of images.
    """
    recipe = loaded.recipe
    if not isinstance(recipe, Recipe):
        raise ValueError(
            f"{loaded.facts['file']} is a model of 2D images ({loaded.experiment}), a model of "
            "volumes is needed; medvlp.predict takes both"
        )
    return Predictor(
        experiment=loaded.experiment,
        model=loaded.two_tower,
        recipe=recipe,
        tokenizer=loaded.tokenizer,
        evaluations=evaluations_of(loaded),
        data=loaded.tree["data"],
        facts=loaded.facts,
    )


def evaluations_of(loaded: LoadedModel) -> dict[str, PromptedEvaluation]:
    """Build those evaluations of the experiment that score by prompts."""
    nodes = loaded.tree["system"].get("evaluations") or {}
    built = {name: instantiate(node, _convert_="all") for name, node in nodes.items()}
    return {name: one for name, one in built.items() if isinstance(one, PromptedEvaluation)}


def prompted(predictor: Predictor, wanted: str | None = None) -> PromptedEvaluation:
    """Choose an evaluation by name, or the first.

    Raises:
        ValueError: If there is none of that name, or none at all.
    """
    return evaluation_named(predictor.evaluations, wanted)


def evaluation_named(
    evaluations: Mapping[str, PromptedEvaluation], wanted: str | None
) -> PromptedEvaluation:
    """Choose one of some evaluations, see `prompted`."""
    name = next(iter(evaluations), "") if wanted is None else wanted
    if name not in evaluations:
        raise ValueError(
            f"the experiment has no evaluation{f' {wanted!r}' if wanted else ''} by prompts; it "
            f"has {', '.join(evaluations) or 'none'}"
        )
    return evaluations[name]
