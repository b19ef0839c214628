"""The 13 components of UniMed, as Hydra and LightningCLI build them."""

from functools import cache
from typing import Any

import pytest
from hydra.utils import instantiate
from jsonargparse import ArgumentParser

from medvlp import config
from medvlp.data.caption_choice import MultiCaption
from medvlp.data.held_out import HeldOut
from medvlp.data.image_datamodule import ImageDataModule
from medvlp.data.shard_images import ShardImages
from medvlp.data.shard_index import expand_range

MODALITIES = {
    "_target_": "medvlp.data.mixing.Mixture",
    "by": "modality",
    "weights": {"xray": 1.0, "mixed": 2.0},
}
SHARDS = {
    "_target_": "medvlp.data.shard_order.ShardOrder",
    "epoch_size": 5_282_000,
    "workers": 8,
}


@cache
def tree_of(*overrides: str) -> dict[str, Any]:
    tree = config.resolve(config.compose(["data=unimed", "paths.data=d", *overrides], "prepare"))
    config.check_keys(tree)
    return tree["data"]


@pytest.mark.parametrize("mixture", [None, MODALITIES, SHARDS])
def test_hydra_and_lightning_build_the_same(mixture: dict[str, Any] | None) -> None:
    tree = tree_of() | {"mixture": mixture}
    built = instantiate(tree, _convert_="all")
    parser = ArgumentParser()
    parser.add_subclass_arguments(ImageDataModule, "data")
    parsed = parser.parse_object({"data": config.to_class_path(tree)})
    twin = parser.instantiate(parsed)["data"]
    for module in (built, twin):
        assert isinstance(module, ImageDataModule) and isinstance(module.texts, MultiCaption)
        assert [len(module.sets[split]) for split in ("train", "val", "test")] == [13, 13, 0]
        assert all(isinstance(images, HeldOut) for images in module.sets["train"])
    assert built.mixture.describe() == twin.mixture.describe()
    assert built.recipe.hash == twin.recipe.hash


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
