"""Every recipe of conf/ is built alike by Hydra and by LightningCLI."""

from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from medvlp import config
from tests.both_builders import built_by_both

CONF = config.config_dir()
NAMES = sorted(path.stem for path in (CONF / "data" / "recipe").glob("*.yaml"))


@pytest.mark.parametrize("name", NAMES)
def test_hydra_and_lightning_build_the_same_recipe(name: str) -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        composed = compose(overrides=[f"+data/recipe@recipe={name}"])
    tree: Any = OmegaConf.to_container(composed, resolve=True)
    if "weights" in (encoder := tree["recipe"].get("slice_encoder") or {}) and encoder["weights"]:
        encoder["known_hash"] = "0" * 16  # the file is the user's
    hydra, lightning = built_by_both(tree["recipe"])
    assert type(lightning) is type(hydra)
    assert lightning.describe() == hydra.describe()
    assert lightning.hash == hydra.hash
