"""Batches of lesions and their schedule, built from conf/ by Hydra and by LightningCLI."""

import json
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from medvlp import config
from medvlp.data.volume_datamodule import VolumeDataModule
from medvlp.optim.multi_step import MultiStep
from tests.both_builders import built_by_both

SCHEDULE = Path(__file__).parents[2] / "conf" / "schedule" / "multi_step.yaml"


@pytest.mark.parametrize("name", ["coarse_batches", "fine_batches"])
def test_lesion_batches_are_chosen_by_name(name: str, tmp_path: Path) -> None:
    places = tmp_path / "places.json"
    places.write_text(json.dumps({"Head": {"Brain": {"Brain": "Brain"}}}))
    overrides = [f"+data/batching@data.batching={name}", f"data.source.vocabulary={places}"]
    overrides += ["data=autopet", f"paths.raw={tmp_path}"]
    tree = config.resolve(config.compose(overrides, "prepare"))
    config.check_keys(tree)
    built, twin = (one.batching for one in built_by_both(tree["data"], VolumeDataModule))
    assert built.describe() == twin.describe()
    assert built.describe()["kind"].lower() == name.replace("_", "")
    assert sum(built.region_weights.values()) == 11


def test_the_schedule_is_built_with_and_without_drawn_epochs() -> None:
    drawn = {"_target_": "medvlp.optim.multi_step.DrawnEpochs"}
    drawn |= {"samples_per_epoch": 10, "batch_size": 4}
    for changes, step, factor in (
        ({}, 101, 0.1),
        ({"drawn": drawn, "num_epochs": None, "milestones": [1]}, 3, 0.1),
    ):
        tree = OmegaConf.create({"trainer": {"max_epochs": 352}})
        tree.schedule = OmegaConf.merge(OmegaConf.load(SCHEDULE), changes)
        node = OmegaConf.to_container(tree, resolve=True)["schedule"]  # pyright: ignore
        for built in built_by_both(node, MultiStep):
            assert built(step, 352) == factor


@pytest.mark.parametrize("recipe", ["hcl_al", "hcl_al_ct", "hcl_al_mr"])
def test_lesions_of_ones_own_with_and_without_pet(recipe: str, tmp_path: Path) -> None:
    overrides = ["data=lesions", f"data/recipe={recipe}", f"paths.raw={tmp_path}"]
    tree = config.resolve(config.compose(overrides, "prepare"))
    config.check_keys(tree)
    built, twin = built_by_both(tree["data"], VolumeDataModule)
    assert built.source.describe() == twin.source.describe()
    assert built.recipe.describe() == twin.recipe.describe()
    assert built.recipe.companions == ("pet", "lesion_mask")[recipe != "hcl_al" :]
