"""A checkpoint, ready to be asked: model, preprocessing recipe and prompts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import OmegaConf

from medvlp import config
from medvlp.callbacks.provenance import CHECKPOINT_KEY
from medvlp.checkpoints.files import WeightFile, open_weights
from medvlp.checkpoints.systems import load_weights
from medvlp.data.brain_recipe import BrainRecipe
from medvlp.data.intensity import HounsfieldWindow, Percentiles
from medvlp.data.recipe import Recipe, require_same_recipe
from medvlp.evaluation.zero_shot import ZeroShotClassification
from medvlp.evaluation.zero_shot_task import ZeroShotTask
from medvlp.models.two_tower import TwoTower

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
    """Build the model of a checkpoint and load its weights.

    Args:
        checkpoint: Of ours, which carries its experiment and recipe; or published weights.
        experiment: Takes model, recipe and prompts from an experiment of `conf/` instead.
            Published weights need it.
        overrides: key=value of the tree.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is no checkpoint, carries no recipe and no experiment is named, its
            recipe differs from the experiment's, or its weights do not fit the model.
    """
    file = open_weights(checkpoint)
    carried = file.beside.get(CHECKPOINT_KEY)
    tree = _tree(checkpoint, carried, experiment, overrides)
    recipe: Recipe = instantiate(tree["data"]["recipe"], _convert_="all")
    if carried is not None:
        require_same_recipe(
            recipe.describe(),
            carried["recipe"]["fields"],
            ours_from=experiment or "these overrides",
            theirs_from=checkpoint.name,
        )
    model = instantiate(_without_pretrained(tree["model"]), _convert_="all")
    if not isinstance(model, TwoTower):
        raise ValueError(f"predict needs a TwoTower model, {checkpoint} has {type(model).__name__}")
    load_weights(model, file.tensors)
    built = {
        name: instantiate(node, _convert_="all")
        for name, node in (tree["system"].get("evaluations") or {}).items()
    }
    evaluations = {n: one for n, one in built.items() if isinstance(one, PromptedEvaluation)}
    return Predictor(
        experiment=str(tree["name"]),
        model=model.eval(),
        recipe=recipe,
        tokenizer=instantiate(tree["tokenizer"], _convert_="all"),
        evaluations=evaluations,
        data=tree["data"],
        facts=_facts(checkpoint, file, carried, str(tree["name"])),
    )


def prompted(predictor: Predictor, wanted: str | None = None) -> PromptedEvaluation:
    """Choose an evaluation by name, or the first.

    Raises:
        ValueError: If there is none of that name, or none at all.
    """
    evaluations = predictor.evaluations
    name = next(iter(evaluations), "") if wanted is None else wanted
    if name not in evaluations:
        raise ValueError(
            f"the experiment has no evaluation{f' {wanted!r}' if wanted else ''} by prompts; it "
            f"has {', '.join(evaluations) or 'none'}"
        )
    return evaluations[name]


def _tree(
    checkpoint: Path,
    carried: Mapping[str, Any] | None,
    experiment: str | None,
    overrides: Sequence[str],
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
    for key in OmegaConf.missing_keys(cfg):  # folders of training data are not looked at
        if key.startswith(("paths.", "data.")):
            OmegaConf.update(cfg, key, "not-used")
    return config.resolve(cfg)


def _without_pretrained(model: dict[str, Any]) -> dict[str, Any]:
    """Let the text tower start empty where its architecture is written out: weights follow."""
    text = model.get("text")
    if isinstance(text, dict) and text.get("config") and text.get("pretrained"):
        return {**model, "text": {**text, "pretrained": None}}
    return model


def _facts(
    checkpoint: Path, file: WeightFile, carried: Mapping[str, Any] | None, experiment: str
) -> dict[str, Any]:
    facts: dict[str, Any] = {"file": checkpoint.name, "layout": str(file.layout)}
    facts["experiment"] = experiment
    if carried is not None:
        facts["commit"] = carried["commit"]
    if "global_step" in file.beside:
        facts["step"] = int(file.beside["global_step"])
    return facts
