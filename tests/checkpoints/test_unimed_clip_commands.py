"""`python -m medvlp.checkpoints` on UniMed-CLIP's files, and the tree's start options."""

from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate

from medvlp import config
from medvlp.checkpoints.files import open_weights
from medvlp.checkpoints.init import MetaCLIPInit, PublishedInit
from medvlp.checkpoints.model_configs import build_model, fitting_models, model_tree
from medvlp.checkpoints.systems import facts_of

from .synthetic import (
    make_metaclip,
    make_unimed_clip,
    published_unimed_clip,
    write,
    write_released,
)
from .test_commands import options as hlip_options
from .test_commands import published as hlip_weights
from .test_commands import run, same, told

NAME = "unimed_clip_vit_b16"
TINY = [
    "model.vision.image_size=32",
    "model.vision.patch_size=8",
    "model.vision.width=64",
    "model.vision.depth=2",
    "model.vision.num_heads=1",
    "model.text.config.vocab_size=20",
    "model.text.config.hidden_size=8",
    "model.text.config.num_hidden_layers=2",
    "model.text.config.num_attention_heads=2",
    "model.text.config.intermediate_size=16",
    "model.text.config.max_position_embeddings=12",
    "model.image_projection.in_features=64",
    "model.image_projection.out_features=12",
    "model.text_projection.in_features=8",
    "model.text_projection.hidden_features=10",
    "model.text_projection.out_features=12",
]


@pytest.fixture
def released(tmp_path: Path) -> Path:
    return write_released(tmp_path, published_unimed_clip(make_unimed_clip(seed=4)))


def test_a_released_file_goes_through_all_names_bit_by_bit(released: Path, tmp_path: Path) -> None:
    options = ["--model", NAME, *TINY]
    ours, theirs, back = (tmp_path / name for name in ("o.safetensors", "t.pt", "b.pt"))
    assert run("convert", released, ours, *options, "--to", "ours") == 0
    assert run("convert", ours, theirs, *options, "--to", "open_clip", "--layout", "nested") == 0
    assert run("convert", theirs, back, *options, "--to", "published", "--layout", "nested") == 0
    assert "text.proj.0.weight" in torch.load(theirs)["state_dict"]
    assert "module.text_encoder.proj.0.weight" in torch.load(back)["state_dict"]
    assert same(released, back)
    assert set(open_weights(theirs).tensors) != set(open_weights(ours).tensors)


def test_inspect_and_verify_know_the_names(
    released: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = told(capsys, "inspect", released)
    assert (answer["system"], answer["names"]) == ("unimed_clip", "published")
    assert answer["layout"] == "pytorch, under state_dict, names with module."
    assert answer["facts"]["image size"] == 32 and answer["beside"]["epoch"] == 10
    options = ["--model", NAME, *TINY]
    assert run("convert", released, tmp_path / "t.pt", *options, "--to", "open_clip") == 0
    assert told(capsys, "inspect", tmp_path / "t.pt")["names"] == "open_clip"
    first, second = (told(capsys, "verify", f, *options) for f in (released, tmp_path / "t.pt"))
    assert first["fits"] and first["fingerprint"] == second["fingerprint"]
    assert run("verify", released, "--model", NAME) == 1
    assert "patch size: 8 in the file, 16 in the model" in capsys.readouterr().err


def test_hlip_has_no_form_of_open_clip(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, target = write(tmp_path, hlip_weights("single"), "bare"), tmp_path / "out.pt"
    assert run("convert", path, target, *hlip_options("single"), "--to", "open_clip") == 2
    assert "open_clip has no such model as those of hlip" in capsys.readouterr().err
    assert not target.exists()


@pytest.mark.parametrize(
    "name", [NAME, "unimed_clip_vit_l14_336_base_text", "unimed_clip_vit_l14_336_large_text"]
)
def test_the_shapes_name_the_config(name: str) -> None:
    assert fitting_models(facts_of(build_model(model_tree(name), only_shapes=True))) == [name]


def test_starts_of_the_tree_build(tmp_path: Path) -> None:
    path = write(tmp_path, make_metaclip(), "bare")
    for group, kind in (("metaclip", MetaCLIPInit), ("published", PublishedInit)):
        tree = config.compose([f"init={group}", f"init.path={path}"])
        assert isinstance(instantiate(tree.init, _convert_="all"), kind)
