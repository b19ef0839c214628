"""HSENet's second stage starts from files of the first, under our names and as published."""

import logging
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from medvlp import config
from medvlp.checkpoints.adapter import CheckpointMismatchError, to_published
from medvlp.checkpoints.hsenet_rules import CLIP
from medvlp.checkpoints.init import SecondStageInit
from medvlp.models.hsenet_clip import HSENetCLIP
from tests.checkpoints.hsenet_files import published_clip, write_folder
from tests.systems.dual_stage_runs import make_clip, make_stage2

_SLICES = ("vision.slice_attention.", "vision.patch_score.")


def _write(model: HSENetCLIP, file: Path, *, published: bool = False) -> str:
    weights = dict(model.state_dict())
    if published:
        torch.save(to_published(weights, CLIP), file)
    else:
        named = {f"model.{name}": tensor for name, tensor in weights.items()}
        torch.save({"pytorch-lightning_version": "2.5.0", "state_dict": named}, file)
    return str(file)


def _assert_filled(model: HSENetCLIP, first: HSENetCLIP, prefix: str = "") -> None:
    weights = model.state_dict()
    for name, tensor in first.state_dict().items():
        assert torch.equal(weights[prefix + name], tensor)


@pytest.mark.parametrize("published", [False, True])
def test_teacher_and_model_start_from_the_first_stage(tmp_path: Path, published: bool):
    first, model = make_clip(seed=3), make_stage2()
    fresh = {n: t.clone() for n, t in model.state_dict().items() if n.startswith(_SLICES)}
    report = SecondStageInit(_write(first, tmp_path / "one.ckpt", published=published))(model)
    _assert_filled(model, first)
    _assert_filled(model, first, "teacher.")
    assert sorted(report.missing) == sorted(fresh)
    for name, tensor in fresh.items():
        assert torch.equal(model.state_dict()[name], tensor)


def test_the_model_may_start_from_another_file(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    first, other, model = make_clip(seed=3), make_clip(seed=4), make_stage2()
    tree = OmegaConf.load(config.config_dir() / "init" / "second_stage.yaml")
    files = {
        "path": _write(first, tmp_path / "one.ckpt"),
        "student": _write(other, tmp_path / "m3d.bin", published=True),
    }
    with caplog.at_level(logging.INFO):
        instantiate(tree, **files, _convert_="all")(model)
    _assert_filled(model, other)
    _assert_filled(model, first, "teacher.")
    assert "kept their own start: vision.patch_score.bias" in caplog.text


def test_published_folders_are_a_start(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    first, other, model = make_clip(seed=3), make_clip(seed=4), make_stage2()
    stage1 = write_folder(tmp_path / "stage1", published_clip(first))
    m3d = write_folder(tmp_path / "m3d", published_clip(other), "pytorch_model.bin")
    with caplog.at_level(logging.INFO):
        report = SecondStageInit(str(stage1), student=str(m3d))(model)
    _assert_filled(model, first, "teacher.")
    _assert_filled(model, other)
    assert len(report.missing) == 12 and all(n.startswith(_SLICES) for n in report.missing)
    assert f"kept their own start: {', '.join(report.missing)}" in caplog.text
    assert caplog.text.count("pretrained_model=/home/someone/stage1") == 2  # once for each folder


def test_a_file_under_our_names_may_hold_the_pooler(tmp_path: Path):
    first, model = make_clip(seed=3), make_stage2()
    pooler = {"text.encoder.pooler.dense.bias": torch.ones(6)}
    torch.save(first.state_dict() | pooler, tmp_path / "converted.pt")
    SecondStageInit(str(tmp_path / "converted.pt"))(model)
    _assert_filled(model, first)


def test_without_a_teacher_the_model_is_filled_alone(tmp_path: Path):
    first, model = make_clip(seed=3), make_clip(stage=2)
    SecondStageInit(_write(first, tmp_path / "one.ckpt"))(model)
    _assert_filled(model, first)


def test_what_does_not_fit_is_refused_by_name(tmp_path: Path):
    file = _write(make_clip(seed=3), tmp_path / "one.ckpt")
    with pytest.raises(FileNotFoundError, match=r"init\.path=FILE"):
        SecondStageInit(str(tmp_path / "none.ckpt"))
    with pytest.raises(FileNotFoundError, match=r"init\.student=FILE"):
        SecondStageInit(file, student=str(tmp_path / "none.ckpt"))
    with pytest.raises(ValueError, match="fills an HSENetCLIP"):
        SecondStageInit(file)(torch.nn.Linear(1, 1))
    weights = make_clip(seed=3).state_dict()
    del weights["vision.cls_token"]
    torch.save(weights, tmp_path / "short.pt")
    model = make_stage2()
    before = model.state_dict()["teacher.raw_scale"].clone()
    with pytest.raises(CheckpointMismatchError, match=r"short\.pt .*[\s\S]*vision\.cls_token"):
        SecondStageInit(str(tmp_path / "short.pt"))(model)
    assert torch.equal(model.state_dict()["teacher.raw_scale"], before)
    second = _write(make_clip(stage=2), tmp_path / "two.ckpt")
    with pytest.raises(CheckpointMismatchError, match=r"unexpected .*vision\.patch_score"):
        SecondStageInit(second)(make_stage2())
