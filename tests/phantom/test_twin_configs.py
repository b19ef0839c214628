"""Every configured chest twin goes from nothing to batches, and is built from YAML both ways."""

from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf

from medvlp import config
from tests.both_builders import built_by_both

CONF = str(config.config_dir())
NAMES = ("ct_rate_fixed", "rad_chestct", "bimcv_r", "radgenome", "folder")
SMALL = ["data.source.num_train=4", "data.source.num_test=2", "data.source.shape=[24,28,28]"]


def composed(name: str, *overrides: str) -> Any:
    with initialize_config_dir(CONF, version_base="1.3"):
        return compose("train", [f"data={name}", *overrides])


@pytest.mark.parametrize("name", NAMES)
def test_a_twin_becomes_batches(name: str, tmp_path: Path) -> None:
    paths = [f"paths.data={tmp_path}", f"paths.cache={tmp_path}/cache", "data.batch_size=2"]
    # hard cases weigh more in a few studies than prepare allows
    composition = composed(f"phantom/{name}", *SMALL, *paths, "data.source.hard_cases=false")
    module = instantiate(composition.data, _convert_="all")
    module.prepare_data()
    module.setup("test")
    batch = next(iter(module.test_dataloader()))
    assert batch["image"].shape == (2, 1, 48, 48, 48)
    assert ("tokens" in batch) == (name != "rad_chestct")
    assert batch["labels"].shape == (2, len(module.label_names))
    if name == "radgenome":
        named = {"question", "answer", "kind", "choices", "subject"}
        assert set(batch["target"][0]) == named


@pytest.mark.parametrize("name", [*NAMES, *(f"phantom/{name}" for name in NAMES), "ct_rate"])
def test_sources_are_built_by_jsonargparse_too(name: str, tmp_path: Path) -> None:
    composition = composed(name, f"paths.raw={tmp_path}")
    tree: Any = OmegaConf.to_container(composition.data.source, resolve=True)
    hydra, lightning = built_by_both(tree)
    assert type(lightning) is type(hydra)
    assert lightning.describe() == hydra.describe()
