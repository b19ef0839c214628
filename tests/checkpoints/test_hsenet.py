"""HSENet's published names at full size, and every kind of its files there and back."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from jsonargparse import ArgumentParser
from torch import Tensor

from medvlp import config
from medvlp.checkpoints.adapter import CheckpointMismatchError, to_published
from medvlp.checkpoints.files import open_weights
from medvlp.checkpoints.fingerprint import fingerprint
from medvlp.checkpoints.model_configs import build_model, fitting_models, model_tree
from medvlp.checkpoints.published_systems import system_of
from medvlp.checkpoints.systems import check_weights, load_vision, load_weights, recognise
from tests.systems.dual_stage_runs import make_clip, make_stage2

from .hsenet_files import TINY, published, published_clip, write_folder
from .test_commands import run, same, told

GOLDENS = Path(os.environ.get("MEDVLP_GOLDENS") or Path(__file__).parents[3] / "shared" / "goldens")
KEYS = GOLDENS.parent / "specs" / "hsenet_keys.json"
PUBLISHED: dict[str, Any] = json.loads(KEYS.read_text()) if KEYS.is_file() else {}
# Section of the list of names -> config and its options, system, tensors that no model has.
SECTIONS = {
    "hsenet_clip": ("hsenet_stage1", [], "hsenet_clip", 2),
    "hsenet_2e3_clip": ("hsenet_stage2", ["+loss=clip_relation"], "hsenet_clip", 4),
    "mllm_vision_tower": ("hsenet_towers", [], "hsenet_towers", 0),
    "biomedclip_trunk": ("biomedclip_slices", [], "biomedclip_slices", 0),
}
POSITIONS = "language_encoder.embeddings.position_ids"


@pytest.mark.skipif(not PUBLISHED, reason=f"no list of published names at {KEYS}")
@pytest.mark.parametrize("section", SECTIONS)
def test_the_models_have_every_published_name_and_shape(section: str) -> None:
    name, options, system, poolers = SECTIONS[section]
    model = build_model(model_tree(name, options), only_shapes=True)
    with torch.device("meta"):
        weights = {key: torch.empty(shape) for key, shape in PUBLISHED[section].items()}
    _, report = check_weights(model, weights)
    assert report.complete and len(report.loaded) == len(weights) - poolers
    assert len(report.ignored) == poolers
    assert all("language_encoder.pooler.dense." in key for key in report.ignored)
    exported = to_published(model.state_dict(), system_of(model).table(model))
    shapes = {key: list(tensor.shape) for key, tensor in exported.items()}
    assert shapes == {k: s for k, s in PUBLISHED[section].items() if k not in report.ignored}
    found, ours, facts = recognise(weights)
    assert found is not None and (found.name, ours) == (system, False)
    assert fitting_models(facts) == [" ".join([name, *options])]


@pytest.mark.parametrize("kind", TINY)
def test_every_kind_goes_there_and_back_bit_by_bit(tmp_path: Path, kind: str) -> None:
    source = write_folder(tmp_path / "released", published(kind))
    ours, back = tmp_path / "ours.safetensors", tmp_path / "back.bin"
    assert run("convert", source, ours, *TINY[kind], "--to", "ours") == 0
    assert run("convert", ours, back, *TINY[kind], "--to", "published") == 0
    assert same(source, back)
    assert run("verify", ours, *TINY[kind]) == run("verify", back, *TINY[kind]) == 0


@pytest.mark.parametrize("kind", TINY)
def test_inspect_and_verify_tell_one_kind_from_another(
    tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = published(kind)
    source = write_folder(tmp_path / "released", weights)
    answer = told(capsys, "inspect", source)
    assert answer["names"] == "published" and answer["tensors"] == len(weights)
    assert answer["beside"]["model_type"] == "m3d_clip_stage2"
    first = told(capsys, "verify", source, *TINY[kind])
    poolers = {"stage 1": 2, "stage 2": 4, "stage 2 without its teacher": 2 + 56}.get(kind, 0)
    left = f"{poolers} ignored by name" if poolers else "none left over"
    assert first["verdict"].endswith(f"none missing, {left}")
    assert first["fits"] and first["keys"]["missing"] == first["keys"]["unexpected"] == []
    name = next(name for name in weights if name.endswith("blocks.1.norm1.bias"))
    torch.save(weights | {name: weights[name] + 1}, tmp_path / "other.bin")
    second = told(capsys, "verify", tmp_path / "other.bin", *TINY[kind])
    rows = len(first["fingerprint"]["image"])
    assert rows == (2 if kind == "towers" else 1)
    assert first["fingerprint"]["hash"] != second["fingerprint"]["hash"]
    assert bool(first["fingerprint"]["text"]) is kind.startswith("stage")


@pytest.mark.parametrize("kind", ["towers", "slices"])
def test_towers_alone_are_built_by_lightning_cli_too(kind: str) -> None:
    _, name, *sizes = TINY[kind]
    tree = model_tree(name, sizes)
    parser = ArgumentParser()
    parser.add_argument("--model", type=torch.nn.Module)
    parsed = parser.parse_object({"model": config.to_class_path(tree)})
    assert str(parser.instantiate(parsed).model) == str(build_model(tree))


def test_our_names_are_recognised() -> None:
    for model in (make_clip(), make_clip(stage=2), make_stage2()):
        system, ours, facts = recognise(model.state_dict())
        assert system is not None and (system.name, ours) == ("hsenet_clip", True)
        assert facts == recognise(published_clip(model))[2]


@pytest.mark.parametrize("outside", ["", "base_model.model.model."])
def test_towers_are_known_however_they_are_wrapped(outside: str) -> None:
    weights = published("towers")
    wrapped = {outside + name.removeprefix("model."): t for name, t in weights.items()}
    system, ours, facts = recognise(wrapped)
    assert system is not None and (system.name, ours) == ("hsenet_towers", False)
    assert facts == recognise(weights)[2]


def test_an_old_buffer_is_ignored_by_name_and_a_stray_tensor_is_not() -> None:
    weights = published("stage 2")
    for prefix in ("", "stage1_pretrained_CLIP."):
        weights[prefix + POSITIONS] = torch.arange(12)[None]
    assert (
        sum(name.endswith("position_ids") for name in load_weights(make_stage2(), weights).ignored)
        == 2
    )
    for stray in (POSITIONS + "s", "stage1_pretrained_CLIP.vision_encoder.blocks.2.norm1.bias"):
        with pytest.raises(CheckpointMismatchError, match="1 unexpected"):
            load_weights(make_stage2(), weights | {stray: torch.ones(12)})


def test_what_does_not_fit_is_said_in_terms_of_the_configuration(tmp_path: Path) -> None:
    source = write_folder(tmp_path / "released", published("stage 2"))
    with pytest.raises(CheckpointMismatchError, match=r"(?s)released .*stage: 2 in the file, 1 in"):
        load_weights(make_clip(), source)
    weights = published("stage 1")
    del weights["vision_encoder.norm.bias"]
    weights["mm_vision_proj.bias"] = torch.ones(9)
    with pytest.raises(CheckpointMismatchError) as caught:
        load_weights(make_clip(), weights)
    assert caught.value.report.missing == ["vision.norm.bias"]
    assert "image_projection.bias: (9,) came, (8,) was expected" in str(caught.value)


def test_the_image_tower_alone_is_loaded() -> None:
    weights = published("stage 2")
    model = make_stage2(seed=7)
    assert load_vision(model, weights).complete
    assert torch.equal(model.vision.cls_token, weights["vision_encoder.cls_token"])


def test_the_trunk_is_found_in_the_whole_of_biomedclip(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trunk = published("slices")
    rest: dict[str, Tensor] = {
        "logit_scale": torch.tensor(4.0),
        "visual.head.proj.weight": torch.ones(4, 12),
        "text.transformer.embeddings.word_embeddings.weight": torch.ones(20, 6),
        "text.proj.0.weight": torch.ones(5, 6),
        "text.proj.2.weight": torch.ones(4, 5),
    }
    whole = {f"visual.trunk.{name}": tensor for name, tensor in trunk.items()} | rest
    source = write_folder(tmp_path / "biomedclip", whole, "open_clip_pytorch_model.bin")
    assert told(capsys, "inspect", source)["system"] == "biomedclip_slices"
    target = tmp_path / "trunk.safetensors"
    answer = told(capsys, "convert", source, target, *TINY["slices"], "--to", "ours")
    assert answer["left out"] == sorted(rest) and answer["tensors"] == len(trunk)
    written = open_weights(target).tensors
    assert all(torch.equal(written[name], tensor) for name, tensor in trunk.items())
    torch.save(whole | {"visual.trunk.head.weight": torch.ones(1)}, tmp_path / "stray.bin")
    assert run("verify", tmp_path / "stray.bin", *TINY["slices"]) == 1
    assert "visual.trunk.head.weight" in capsys.readouterr().err


def test_a_network_without_a_fixed_input_is_told() -> None:
    with pytest.raises(ValueError, match="no fingerprint is known of a Linear"):
        fingerprint(torch.nn.Linear(1, 1))
