"""The YAML of HSENet's two stages composes and builds the same through Hydra and LightningCLI."""

from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from jsonargparse import ArgumentParser
from torch import nn

from medvlp import config
from medvlp.losses.relation import RelationLoss
from medvlp.systems.dual_stage import DualStageSystem


def _tree(*overrides: str) -> dict[str, Any]:
    tree = config.resolve(config.compose(["system=dual_stage", *overrides]))
    config.check_keys(tree["system"])
    return tree["system"]


def _second_stage(model: str, path: Path) -> dict[str, Any]:
    path.touch()
    start = ["init=second_stage", f"init.path={path}"]
    return _tree(f"model={model}", "loss=clip_relation", *start)


@pytest.mark.parametrize("model", ["hsenet_tiny_stage2_phantom", "hsenet_stage2"])
def test_the_teacher_is_the_model_of_the_first_stage(model: str, tmp_path: Path):
    first = _tree(f"model={model.replace('stage2', 'stage1')}", "loss=clip")["model"]
    with torch.device("meta"):
        tree = _second_stage(model, tmp_path / "one.ckpt")
        system: DualStageSystem = instantiate(tree, _convert_="all")
        expected = instantiate(first, _convert_="all").state_dict()
    assert isinstance(system.loss, RelationLoss) and system.model.teacher is not None
    assert (system.loss.weight, system.loss.num_steps) == (0.1, 5000)
    found = system.model.teacher.state_dict()
    assert {n: t.shape for n, t in found.items()} == {n: t.shape for n, t in expected.items()}
    system._check_teacher()


def test_scale_class_token_and_positions_are_decayed():
    system: DualStageSystem = instantiate(
        _tree("model=hsenet_tiny_stage1_phantom", "loss=clip"), _convert_="all"
    )
    names = {id(p): name for name, p in system.model.named_parameters()}
    kept, decayed = ({names[id(p)] for p in g["params"]} for g in system.parameter_groups())
    assert {"raw_scale", "vision.cls_token", "vision.pos_embed"} <= decayed
    assert not any("norm" in name.lower() or name.endswith("bias") for name in decayed)
    assert len(kept) + len(decayed) == len(names)


def test_lightning_cli_builds_the_same_system(tmp_path: Path):
    tree = _second_stage("hsenet_tiny_stage2_phantom", tmp_path / "one.ckpt")
    parser = ArgumentParser()
    parser.add_subclass_arguments(DualStageSystem, "model")
    parsed = parser.parse_object({"model": config.to_class_path(tree)})
    with torch.device("meta"):
        assert str(parser.instantiate(parsed).model) == str(instantiate(tree, _convert_="all"))


@pytest.mark.parametrize("model", ["hsenet_stage1", "hsenet_stage2"])
def test_weight_decay_is_that_of_the_published_trainer(model: str, tmp_path: Path):
    start = _second_stage(model, tmp_path / "one.ckpt") if model.endswith("2") else None
    with torch.device("meta"):
        tree = start or _tree(f"model={model}", "loss=clip")
        system: DualStageSystem = instantiate(tree, _convert_="all")
    normed = [name for name, part in system.model.named_modules() if isinstance(part, nn.LayerNorm)]
    trained = {n: p for n, p in system.model.named_parameters() if p.requires_grad}
    expected = {
        name
        for name in trained
        if name.rpartition(".")[0] not in normed
        and not any(part in name.lower() for part in ("bias", "layernorm", "rmsnorm"))
    }
    names = {id(parameter): name for name, parameter in trained.items()}
    kept, decayed = ({names[id(p)] for p in g["params"]} for g in system.parameter_groups())
    assert decayed == expected and kept == trained.keys() - expected
    assert not any(name.startswith("teacher.") for name in trained)
