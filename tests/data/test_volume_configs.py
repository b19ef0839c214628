"""The YAML of 3D data sets builds the same objects through Hydra and through LightningCLI."""

from pathlib import Path

import pytest

from medvlp import config
from medvlp.data.ct_recipe import CTRecipe
from medvlp.data.volume_datamodule import VolumeDataModule
from tests.both_builders import built_by_both


@pytest.mark.parametrize("name", ["ct_rate", "folder", "phantom/ct_rate"])
@pytest.mark.parametrize("recipe_name", ["hlip_chest_ct", "phantom_chest_ct"])
def test_configs_build_by_hydra_and_by_jsonargparse(
    tmp_path: Path, name: str, recipe_name: str
) -> None:
    overrides = [f"data={name}", f"data/recipe={recipe_name}", f"paths.raw={tmp_path}"]
    tree = config.resolve(config.compose(overrides, "prepare"))
    config.check_keys(tree)
    built, twin = built_by_both(tree["data"], VolumeDataModule)
    for module in (built, twin):
        assert isinstance(module, VolumeDataModule)
        assert isinstance(module.recipe, CTRecipe)
    assert built.recipe.hash == twin.recipe.hash
    assert built.source.describe() == twin.source.describe()
    assert built.batch_size == twin.batch_size == tree["data"]["batch_size"]
    assert type(built.scans.evaluation) is type(twin.scans.evaluation)


@pytest.mark.parametrize("name", ["fixed_size", "token_budget", "similar_length"])
def test_batching_is_chosen_by_name(name: str, tmp_path: Path) -> None:
    overrides = ["data=ct_rate", f"+data/batching@data.batching={name}", f"paths.raw={tmp_path}"]
    tree = config.resolve(config.compose(overrides, "prepare"))
    config.check_keys(tree)
    built, twin = (one.batching for one in built_by_both(tree["data"], VolumeDataModule))
    assert built.describe() == twin.describe()
    assert built.describe()["kind"].lower() == name.replace("_", "")
