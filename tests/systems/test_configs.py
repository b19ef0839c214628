"""The YAML of this layer builds the same objects through Hydra and through LightningCLI."""

from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from lightning.pytorch.strategies import DDPStrategy
from omegaconf import OmegaConf

from medvlp import config
from medvlp.systems.contrastive import ContrastiveSystem
from medvlp.systems.fsdp2 import FSDP2Strategy
from tests.both_builders import built_by_both

CONF = config.config_dir()
TINY_MODEL = {
    "_target_": "medvlp.models.two_tower.TwoTower",
    "vision": {"_target_": "torch.nn.Linear", "in_features": 8, "out_features": 6},
    "text": {"_target_": "torch.nn.Linear", "in_features": 8, "out_features": 6},
    "image_projection": {"_target_": "torch.nn.Identity"},
    "text_projection": {"_target_": "torch.nn.Identity"},
}
EVALUATION = {
    "demo": {
        "_target_": "medvlp.evaluation.zero_shot.ZeroShotClassification",
        "prompts": "phantom_ct_rate",
        "tokenizer": {"_target_": "tests.systems.test_configs.Tokenizer"},
        "label_names": "${label_names}",
    }
}


class Tokenizer:
    def __call__(self, texts: list[str]) -> Any:
        return texts


def _tree(loss: str, schedule: str) -> dict[str, Any]:
    groups = {"system": "contrastive", "loss": loss, "optim": "adamw", "schedule": schedule}
    tree = {name: OmegaConf.load(CONF / name / f"{file}.yaml") for name, file in groups.items()}
    labels = OmegaConf.load(CONF / "evaluation" / "phantom_ct_rate.yaml")
    tree |= {"model": TINY_MODEL, "evaluation": EVALUATION, "init": None}
    tree["label_names"] = labels["phantom_ct_rate"]["label_names"]
    cfg = OmegaConf.create(tree)
    if schedule == "cooldown":
        cfg.schedule.cooldown_steps = 10
    resolved: Any = OmegaConf.to_container(cfg, resolve=True)
    return resolved["system"]


@pytest.mark.parametrize("loss", ["clip", "siglip", "statement_clip"])
@pytest.mark.parametrize("schedule", ["cosine", "constant", "cooldown"])
def test_hydra_and_lightning_build_the_same_system(loss, schedule):
    tree = _tree(loss, schedule)
    config.check_keys(tree)
    systems = built_by_both(tree, ContrastiveSystem)
    assert type(systems[0].loss) is type(systems[1].loss)
    for system in systems:
        optimizer = system._make_optimizer([{"params": [torch.nn.Parameter(torch.zeros(1))]}])
        assert isinstance(optimizer, torch.optim.AdamW)
        assert optimizer.defaults["lr"] == 1e-5 and optimizer.defaults["weight_decay"] == 0.2
        assert tuple(optimizer.defaults["betas"]) == (0.9, 0.98)
        assert system.schedule(0, 1000) == pytest.approx(1 / 377)
        assert system.no_decay == ("bn", "ln", "bias", "logit_scale")
        assert list(system.evaluations) == ["demo"]


def test_strategies_build():
    built = {
        name: instantiate(OmegaConf.load(CONF / "strategy" / f"{name}.yaml"), _convert_="all")
        for name in ("auto", "ddp", "fsdp2")
    }
    assert built["auto"]["strategy"] == "auto"
    assert isinstance(built["ddp"]["strategy"], DDPStrategy)
    assert isinstance(built["fsdp2"]["strategy"], FSDP2Strategy)
