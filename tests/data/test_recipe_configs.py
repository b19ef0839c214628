"""Every recipe of conf/ is built alike by Hydra and by LightningCLI."""

from typing import Any

import pytest
from hydra.utils import instantiate
from jsonargparse import ArgumentParser
from omegaconf import OmegaConf

from medvlp import config
from medvlp.data.recipe import Recipe

FOLDER = config.config_dir() / "data" / "recipe"


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.yaml")))
def test_hydra_and_lightning_build_the_same_recipe(name: str) -> None:
    tree: Any = OmegaConf.to_container(OmegaConf.load(FOLDER / f"{name}.yaml"), resolve=True)
    hydra = instantiate(tree, _convert_="all")
    assert isinstance(hydra, Recipe)
    parser = ArgumentParser()
    parser.add_subclass_arguments(Recipe, "recipe")
    parsed = parser.parse_object({"recipe": config.to_class_path(tree)})
    lightning = parser.instantiate(parsed).recipe
    assert type(lightning) is type(hydra)
    assert lightning.describe() == hydra.describe()
    assert lightning.hash == hydra.hash
