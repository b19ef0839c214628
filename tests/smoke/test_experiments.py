"""Every experiment composes, is made of known parameters, and instantiates at full size."""

import pytest
import torch
import yaml
from hydra.utils import instantiate
from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch.cli import LightningCLI
from omegaconf import OmegaConf

from medvlp import config
from medvlp.evaluate import lightning_config

EXPERIMENTS = sorted(
    str(file.relative_to(config.config_dir() / "experiment").with_suffix(""))
    for file in (config.config_dir() / "experiment").rglob("*.yaml")
)


def _without_download(cfg):
    """Start text towers and language models at random; the written-out config has the shapes."""
    for part in ("text", "language"):
        if "pretrained" in cfg.model.get(part, {}):
            cfg.model[part].pretrained = None
    return cfg


def _tree(experiment: str, tmp_path) -> dict:
    overrides = [f"experiment={experiment}", f"paths.raw={tmp_path}", f"paths.run={tmp_path}"]
    cfg = _without_download(config.compose(overrides))
    if cfg.init is not None:  # a second stage: any file stands for the weights of the first
        cfg.init.path = str(tmp_path / "first_stage.ckpt")
        (tmp_path / "first_stage.ckpt").touch()
    if OmegaConf.select(cfg, "data.source.vocabulary"):  # HCL-AL's files are the user's
        cfg.data.source.vocabulary, cfg.data.source.descriptions = "phantom", None
    if OmegaConf.select(cfg, "data.recipe.slice_encoder.weights"):
        cfg.data.recipe.slice_encoder.known_hash = "0" * 16  # BiomedCLIP is the user's
    return config.resolve(cfg)


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_key_is_a_parameter(experiment, tmp_path):
    config.check_keys(_tree(experiment, tmp_path))


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_it_instantiates_at_full_size_on_the_meta_device(experiment, tmp_path):
    with torch.device("meta"):
        system = instantiate(_tree(experiment, tmp_path)["system"], _convert_="all")
    assert {parameter.device.type for parameter in system.parameters()} == {"meta"}


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_lightning_cli_builds_the_same_classes(experiment, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["test"])
    monkeypatch.setenv("JSONARGPARSE_DEPRECATION_WARNINGS", "off")  # Lightning's own
    tree = _tree(experiment, tmp_path)
    tree["trainer"] |= {"accelerator": "cpu", "devices": 1, "precision": "32-true"}
    file = tmp_path / "tree.yaml"
    file.write_text(yaml.safe_dump(lightning_config(tree), sort_keys=False))  # as evaluate does
    with torch.device("meta"):
        cli = LightningCLI(
            LightningModule,
            LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            save_config_callback=None,
            run=False,
            args=["--config", str(file)],
        )
    ours = instantiate(tree["data"], _convert_="all")
    assert cli.datamodule.recipe.hash == ours.recipe.hash
    with torch.device("meta"):
        system = instantiate(tree["system"], _convert_="all")
    assert str(cli.model) == str(system)


@pytest.mark.parametrize(
    "model", sorted(file.stem for file in (config.config_dir() / "model").glob("*.yaml"))
)
def test_every_model_composes(model, tmp_path):
    tree = config.resolve(_without_download(config.compose([f"model={model}"])))
    with torch.device("meta"):
        instantiate(tree["model"], _convert_="all")
