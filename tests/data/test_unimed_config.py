"""The 13 components of UniMed, as Hydra and LightningCLI build them."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra.utils import instantiate

from medvlp import config
from medvlp.data.caption_choice import MultiCaption
from medvlp.data.held_out import HeldOut
from medvlp.data.image_datamodule import ImageDataModule
from medvlp.data.mixing import Component, Mixed, Mixture
from medvlp.data.sampling import GlobalBatchSampler
from medvlp.data.shard_images import ShardImages
from medvlp.data.shard_index import expand_range
from tests.both_builders import built_by_both

MIXTURES = sorted((config.config_dir() / "data" / "mixture").glob("*.yaml"))


@cache
def tree_of(*overrides: str) -> dict[str, Any]:
    tree = config.resolve(config.compose(["data=unimed", "paths.data=d", *overrides], "prepare"))
    config.check_keys(tree)
    return tree["data"]


def test_hydra_and_lightning_build_the_same() -> None:
    modules = built_by_both(tree_of(), ImageDataModule)
    for module in modules:
        assert isinstance(module, ImageDataModule) and isinstance(module.texts, MultiCaption)
        assert [len(module.sets[split]) for split in ("train", "val", "test")] == [13, 13, 0]
        assert all(isinstance(images, HeldOut) for images in module.sets["train"])
    assert modules[0].recipe.hash == modules[1].recipe.hash


@pytest.mark.parametrize("file", MIXTURES, ids=lambda file: file.stem)
def test_every_mixture_fits_the_components(file: Path) -> None:
    tree = tree_of(f"data/mixture={file.stem}")
    few = tree | {"train": tree["train"][:1], "val": []}
    hydra, lightning = (module.mixture for module in built_by_both(few, ImageDataModule))
    assert hydra.describe() == lightning.describe()
    components = [
        Component(images["images"]["name"], images["images"]["modality"], np.repeat([0, 1], 30))
        for images in tree["train"]
    ]
    sampler = GlobalBatchSampler(
        780, 20, shuffle=True, drop_last=True, batching=Mixed(_short(hydra), components)
    )
    assert len(list(sampler)) == len(sampler) >= 39


def _short(mixture: Mixture) -> Mixture:
    mixture.epoch_size = mixture.epoch_size and 780
    return mixture


def test_the_components_are_the_published_ones() -> None:
    sets = [images.images for images in instantiate(tree_of(), _convert_="all").sets["train"]]
    assert all(isinstance(images, ShardImages) for images in sets)
    shards = [expand_range(images.shards) for images in sets]
    assert sum(map(len, shards)) == 5282
    assert shards[0][-1] == "d/unimed/radimagenet_webdataset/dataset-001049.tar"
    counts = dict.fromkeys([images.modality for images in sets], 0)
    for images, names in zip(sets, shards, strict=True):
        counts[images.modality] += len(names)
    expected = {"ct_mri_ultrasound": 1049, "xray": 602, "mixed": 2439, "pathology": 1018}
    assert counts == {**expected, "fundus": 174}


def test_a_component_can_be_left_out() -> None:
    tree = tree_of("~unimed.train.mimic_cxr", "~unimed.val.mimic_cxr")
    names = [images["images"]["name"] for images in tree["train"]]
    assert len(names) == len(tree["val"]) == 12 and "mimic_cxr" not in names


def test_everything_can_be_trained_on() -> None:
    tree = tree_of("data.train=${oc.dict.values:unimed.sets}", "data.val=[]")
    assert len(tree["train"]) == 13 and not tree["val"]
    assert {images["_target_"] for images in tree["train"]} == {
        "medvlp.data.shard_images.ShardImages"
    }
