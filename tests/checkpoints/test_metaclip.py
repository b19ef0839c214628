"""MetaCLIP fills the image side, its text tower is dropped by name, wrong files are told."""

import logging
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from medvlp.checkpoints.adapter import CheckpointMismatchError
from medvlp.checkpoints.init import MetaCLIPInit, PublishedInit
from medvlp.checkpoints.metaclip import init_from_metaclip
from medvlp.checkpoints.systems import load_weights
from medvlp.layers.pos_embed import resample_plane

from .synthetic import (
    make_metaclip,
    make_model,
    make_unimed_clip,
    published_unimed_clip,
    write,
    write_released,
)


@pytest.mark.parametrize("layout", ["bare", "module-nested"])
def test_the_image_side_is_taken_and_the_rest_keeps_its_start(
    tmp_path: Path, layout: str, caplog: pytest.LogCaptureFixture
) -> None:
    weights, model = make_metaclip(), make_unimed_clip(seed=1)
    text = {n: t.clone() for n, t in model.state_dict().items() if n.startswith("text")}
    with caplog.at_level(logging.INFO):
        report = MetaCLIPInit(str(write(tmp_path, weights, layout)))(model)
    assert model.logit_scale.tolist() == [4.5]
    assert torch.equal(model.image_projection.weight, weights["visual.proj"].T)
    assert torch.equal(
        model.vision.get_parameter("pos_embed"), weights["visual.positional_embedding"]
    )
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in text.items())
    assert sorted(report.missing) == sorted(text) and report.resized == {}
    assert len(report.ignored) == sum(not n.startswith(("visual.", "logit")) for n in weights)
    counts = (
        f"{len(report.loaded)} tensors loaded, 7 of its text tower dropped, {len(text)} tensors"
    )
    assert counts in caplog.text


def test_positions_are_resized(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    weights, model = make_metaclip(), make_unimed_clip(image_size=48)
    with caplog.at_level(logging.INFO):
        MetaCLIPInit(str(write(tmp_path, weights, "bare")))(model)
    expected = resample_plane(weights["visual.positional_embedding"], 37)
    assert torch.equal(model.vision.get_parameter("pos_embed"), expected)
    assert "vision.pos_embed resized, (17, 64) to (37, 64)" in caplog.text


def without(name: str) -> dict[str, torch.Tensor]:
    return {key: tensor for key, tensor in make_metaclip().items() if key != name}


WRONG: dict[str, tuple[Any, str]] = {
    "a whole UniMed-CLIP": (
        published_unimed_clip(make_unimed_clip()),
        "a text tower of its own, not MetaCLIP; start from it with init=published",
    ),
    "another kind of weights": ({"blocks.0.weight": torch.ones(1)}, "is not a MetaCLIP file"),
    "a missing tensor": (
        without("visual.ln_pre.bias"),
        "1 missing here (the model has it, the file does not): vision.norm_pre.bias",
    ),
    "a tensor too many": (
        make_metaclip() | {"visual.extra": torch.ones(1)},
        "1 unexpected (the file has it, the model does not): visual.extra",
    ),
    "a tower of another width": (
        make_metaclip(width=128),
        "(width: 128 in the file, 64 in the model; ",
    ),
    "another patch": (
        make_metaclip(patch_size=4, image_size=16),
        "(patch size: 4 in the file, 8 in the model)",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_files_are_told_and_nothing_is_loaded(tmp_path: Path, case: str) -> None:
    weights, message = WRONG[case]
    model, path = make_unimed_clip(), write(tmp_path, weights)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        init_from_metaclip(model, path)
    assert str(caught.value).startswith(str(path))
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in before.items())


def test_wrong_models_and_paths_are_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="init=metaclip fills a TwoTower of an ImageViT"):
        init_from_metaclip(make_model(), make_metaclip())
    with pytest.raises(FileNotFoundError, match="no weight file at nowhere"):
        MetaCLIPInit("nowhere")


def test_a_released_file_starts_a_larger_model_on_request(tmp_path: Path) -> None:
    path = write_released(tmp_path, published_unimed_clip(make_unimed_clip()))
    model = make_unimed_clip(image_size=48)
    with pytest.raises(CheckpointMismatchError, match="resize_positions=true resizes it"):
        PublishedInit(str(path))(model)
    assert PublishedInit(str(path), resize_positions=True)(model).resized


def test_metaclip_is_no_whole_model() -> None:
    with pytest.raises(CheckpointMismatchError, match=r"missing here.*text\.encoder"):
        load_weights(make_unimed_clip(), make_metaclip())
