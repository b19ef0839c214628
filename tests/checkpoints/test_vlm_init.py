import logging
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor, nn

from medvlp.checkpoints.adapter import CheckpointMismatchError, to_published
from medvlp.checkpoints.hsenet_rules import VISION
from medvlp.checkpoints.vlm_init import TowersInit
from medvlp.config import config_dir
from medvlp.models.hsenet_vlm import HSENetVLM
from tests.checkpoints.hsenet_files import write_folder
from tests.models.tiny_vlm import make_vlm

OURS = ("teacher.vision.", "vision.")
PUBLISHED = [
    ("stage1_pretrained_CLIP.vision_encoder.", "vision_encoder."),
    *(
        (
            f"{outside}vision_tower.vision_tower_stage1.",
            f"{outside}vision_tower.vision_tower_stage2.",
        )
        for outside in ("model.", "base_model.model.model.", "")
    ),
]


def source() -> HSENetVLM:
    """Build a model with weights of its own, the same at each call."""
    model = make_vlm()
    for weight in model.parameters():
        nn.init.normal_(weight)
    return model


def towers(model: HSENetVLM, prefixes: tuple[str, str], *, published: bool) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for prefix, tower in zip(prefixes, (model.vision, model.guided_vision), strict=True):
        state = tower.state_dict()
        names = to_published(state, VISION) if published else state
        tensors |= {prefix + name: tensor for name, tensor in names.items()}
    return tensors


def lightning(path: Path, tensors: dict[str, Tensor]) -> str:
    """Write a checkpoint of the second stage as `medvlp.train` does."""
    rest = {"text.weight": torch.ones(2), "teacher.text.weight": torch.ones(2)}
    weights = {f"model.{name}": tensor for name, tensor in (rest | tensors).items()}
    torch.save({"pytorch-lightning_version": "2.6.0", "state_dict": weights}, path)
    return str(path)


def same_towers(one: HSENetVLM, other: HSENetVLM) -> bool:
    pairs = [(one.vision, other.vision), (one.guided_vision, other.guided_vision)]
    return all(
        torch.equal(tensor, b.state_dict()[name])
        for a, b in pairs
        for name, tensor in a.state_dict().items()
    )


def test_a_checkpoint_of_ours_fills_both_towers_and_nothing_else(tmp_path, caplog):
    path = lightning(tmp_path / "stage2.ckpt", towers(source(), OURS, published=False))
    config = OmegaConf.load(config_dir() / "init" / "towers.yaml")
    init = instantiate(OmegaConf.merge(config, {"path": path}), _convert_="all")
    model, fresh = make_vlm(), make_vlm()
    with caplog.at_level(logging.INFO):
        report = init(model)
    assert same_towers(model, source()) and report.complete and not init.in_evaluation
    assert path in caplog.text
    kept = {
        n: t for n, t in fresh.state_dict().items() if not n.startswith(("vision.", "guided_v"))
    }
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in kept.items())


@pytest.mark.parametrize("prefixes", PUBLISHED)
def test_published_files_fill_both_towers(tmp_path, prefixes):
    torch.save(towers(source(), prefixes, published=True), tmp_path / "published.bin")
    model = make_vlm()
    TowersInit(str(tmp_path / "published.bin"))(model)
    assert same_towers(model, source())


@pytest.mark.parametrize("form", ["model.safetensors", "model.safetensors.index.json"])
def test_a_published_folder_fills_both_towers(tmp_path, form):
    tensors = towers(source(), PUBLISHED[0], published=True)
    write_folder(tmp_path / "stage2", tensors, form)
    model = make_vlm()
    TowersInit(str(tmp_path / "stage2"))(model)
    assert same_towers(model, source())


def test_both_towers_under_our_names_are_taken(tmp_path):
    torch.save(towers(source(), ("vision.", "guided_vision."), published=False), tmp_path / "t.pt")
    model = make_vlm()
    TowersInit(str(tmp_path / "t.pt"))(model)
    assert same_towers(model, source())


def test_a_checkpoint_without_teacher_is_told(tmp_path):
    tensors = towers(source(), OURS, published=False)
    own = {name: tensor for name, tensor in tensors.items() if not name.startswith("teacher")}
    with pytest.raises(ValueError, match=r"stage1\.ckpt has no teacher"):
        TowersInit(lightning(tmp_path / "stage1.ckpt", own))(make_vlm())


def test_other_files_and_models_are_told(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"init\.path=FILE"):
        TowersInit(str(tmp_path / "none.ckpt"))
    path = lightning(tmp_path / "text.ckpt", {})
    with pytest.raises(ValueError, match="no image towers under known names"):
        TowersInit(path)(make_vlm())
    with pytest.raises(ValueError, match="an HSENetVLM, a Linear came"):
        TowersInit(path)(nn.Linear(1, 1))


@pytest.mark.parametrize("change", ["missing", "unexpected", "misshapen"])
def test_nothing_is_loaded_of_what_does_not_fit(tmp_path, change):
    tensors = towers(source(), OURS, published=False)
    if change == "missing":
        del tensors["vision.cls_token"]
    else:
        name = "vision.extra" if change == "unexpected" else "vision.cls_token"
        tensors[name] = torch.ones(3)
    model = make_vlm()
    with pytest.raises(CheckpointMismatchError, match=r"stage2\.ckpt and the model do not fit"):
        TowersInit(lightning(tmp_path / "stage2.ckpt", tensors))(model)
    assert same_towers(model, make_vlm())
