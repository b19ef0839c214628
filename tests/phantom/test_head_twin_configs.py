"""Every configured head twin goes from nothing to batches, and is built from YAML both ways."""

from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf

from medvlp import config
from tests.both_builders import built_by_both

CONF = str(config.config_dir())
NAMES = ("pub_brain_5", "mr_rate", "rsna", "cq500")
SMALL = ["data.source.num_train=4", "data.source.num_test=2", "data.source.shape=[32,40,40]"]


def composed(name: str, *overrides: str) -> Any:
    with initialize_config_dir(CONF, version_base="1.3"):
        return compose("train", [f"data={name}", *overrides])


@pytest.mark.parametrize("name", NAMES)
def test_a_twin_becomes_batches(name: str, tmp_path: Path) -> None:
    paths = [f"paths.data={tmp_path}", f"paths.cache={tmp_path}/cache", "data.batch_size=2"]
    # hard cases weigh more in a few studies than prepare allows
    options = ["data.source.hard_cases=false", "data.source.num_workers=0"]
    composition = composed(f"phantom/{name}", *SMALL, *paths, *options)
    module = instantiate(composition.data, _convert_="all")
    module.prepare_data()
    module.setup("test")
    batch = next(iter(module.test_dataloader()))
    scans = int(batch["num_scans"].sum())
    assert batch["image"].shape == (scans, 1, 48, 48, 48) and scans >= 2
    assert batch["labels"].shape == (2, len(module.label_names))
    assert batch["tokens"].input_ids.shape[0] == 2
    assert len(batch["metadata"]) == 2


@pytest.mark.parametrize("name", [*NAMES, *(f"phantom/{name}" for name in NAMES)])
def test_sources_are_built_by_jsonargparse_too(name: str, tmp_path: Path) -> None:
    composition = composed(name, f"paths.raw={tmp_path}", f"paths.cache={tmp_path}")
    tree: Any = OmegaConf.to_container(composition.data.source, resolve=True)
    hydra, lightning = built_by_both(tree)
    assert type(lightning) is type(hydra)
    assert lightning.describe() == hydra.describe()
