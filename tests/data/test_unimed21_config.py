"""The configuration of the 21 evaluation sets, as Hydra and as LightningCLI build it."""

from pathlib import Path

import pytest
from hydra.utils import instantiate
from jsonargparse import ArgumentParser
from lightning import LightningDataModule

from medvlp import config
from medvlp.data.catalogue_sets import Registry
from medvlp.data.image_catalogue import CatalogueImages
from medvlp.data.image_datamodule import ImageDataModule
from tests.data.catalogue_files import write_catalogue

SIZES = {"unimed_vitb16": 224, "unimed_vitl14_336": 336}


def tree_of(experiment: str, tmp_path: Path, *overrides: str) -> dict:
    tree = config.compose(
        [
            f"experiment={experiment}",
            *("data=unimed21", "evaluation=unimed21"),
            *(f"paths.raw={tmp_path}", f"paths.cache={tmp_path / 'cache'}", "data.num_workers=0"),
            *overrides,
        ]
    )
    resolved = config.resolve(tree)
    config.check_keys(resolved)
    return resolved["data"]


@pytest.mark.parametrize("experiment", SIZES)
def test_hydra_builds_the_data(experiment: str, tmp_path: Path) -> None:
    write_catalogue(tmp_path, Registry.load())
    data = instantiate(tree_of(experiment, tmp_path, "unimed21.sets=[PCAM]"), _convert_="all")
    assert isinstance(data, ImageDataModule)
    assert data.recipe.size == SIZES[experiment]
    data.prepare_data()
    data.setup("test")
    batch = next(iter(data.test_dataloader()))
    assert [row["label"] for row in batch["metadata"]] == ["0", "1"]
    assert batch["sample_id"][0] == "PCAM/PCam_Test_preprocessed/0_0.png"


def test_lightning_cli_builds_the_data(tmp_path: Path) -> None:
    node = config.to_class_path(tree_of("unimed_vitb16", tmp_path))
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--data", type=LightningDataModule)
    data = parser.instantiate(parser.parse_object({"data": node})).data
    (images,) = data.sets["test"]
    assert isinstance(images, CatalogueImages)
    assert images.local_data == tmp_path / "local_data"
