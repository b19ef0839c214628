"""UniMed-CLIP's names at full size, its released files, open_clip's names, other image sizes."""

import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from medvlp.checkpoints.adapter import CheckpointMismatchError, to_published
from medvlp.checkpoints.files import open_weights
from medvlp.checkpoints.fingerprint import fingerprint
from medvlp.checkpoints.model_configs import build_model, model_tree
from medvlp.checkpoints.systems import load_vision, load_weights, recognise
from medvlp.checkpoints.unimed_clip import OPEN_CLIP, UNIMED_CLIP
from medvlp.layers.pos_embed import resample_plane

from .synthetic import (
    LAYOUTS,
    TEXT,
    make_metaclip,
    make_model,
    make_unimed_clip,
    published_unimed_clip,
    write,
    write_released,
)

GOLDENS = Path(os.environ.get("MEDVLP_GOLDENS") or Path(__file__).parents[3] / "shared" / "goldens")
KEYS = GOLDENS.parent / "specs" / "unimed_clip_keys.json"
PUBLISHED: dict[str, Any] = json.loads(KEYS.read_text()) if KEYS.is_file() else {}
# Config -> published name, parameters of the model, of its image side, of its text side.
SIZES = {
    "unimed_clip_vit_b16": ("vit_b16_base_text", 195_903_489, 86_192_640, 109_710_848),
    "unimed_clip_vit_l14_336_base_text": (
        "vit_l14_336_base_text",
        414_365_185,
        304_293_888,
        110_071_296,
    ),
    "unimed_clip_vit_l14_336_large_text": (
        "vit_l14_336_large_text",
        639_991_809,
        304_293_888,
        335_697_920,
    ),
}


@pytest.mark.parametrize("name", SIZES)
def test_the_models_have_the_published_numbers_of_parameters(name: str) -> None:
    model = build_model(model_tree(name), only_shapes=True)
    counts = {key: parameter.numel() for key, parameter in model.named_parameters()}
    image = sum(n for key, n in counts.items() if key.startswith(("vision.", "image_projection.")))
    text = sum(n for key, n in counts.items() if key.startswith(("text.", "text_projection.")))
    assert (sum(counts.values()), image, text) == SIZES[name][1:]


@pytest.mark.skipif(not PUBLISHED, reason=f"no list of published names at {KEYS}")
@pytest.mark.parametrize("name", SIZES)
def test_the_models_have_every_published_name_and_shape(name: str) -> None:
    model = build_model(model_tree(name), only_shapes=True)
    expected = PUBLISHED["models"][SIZES[name][0]]
    exported = to_published(model.state_dict(), UNIMED_CLIP)
    assert {key: list(tensor.shape) for key, tensor in exported.items()} == expected
    with torch.device("meta"):
        weights = {key: torch.empty(shape) for key, shape in expected.items()}
        for buffer in PUBLISHED["summary"][SIZES[name][0]]["buffers"]:
            weights[buffer] = torch.empty(1, 512)
    report = load_weights(model, weights)
    assert report.complete and len(report.loaded) == len(expected)
    assert len(report.ignored) == 2


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_loaded_bit_by_bit(tmp_path: Path, layout: str) -> None:
    source, model = make_unimed_clip(seed=1), make_unimed_clip(seed=2)
    path = write(tmp_path, published_unimed_clip(source), layout)
    assert load_weights(model, path).complete
    loaded = model.state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in source.state_dict().items())
    exported = published_unimed_clip(model)
    assert all(torch.equal(exported[n], t) for n, t in open_weights(path).tensors.items())


@pytest.mark.parametrize("numpy", [1, 2])
def test_a_released_file_is_read_safely(tmp_path: Path, numpy: int) -> None:
    source, model = make_unimed_clip(seed=1), make_unimed_clip(seed=2)
    path = write_released(tmp_path, published_unimed_clip(source), numpy=numpy)
    assert load_weights(model, path).complete
    assert torch.equal(model.vision.cls_token, source.vision.cls_token)
    file = open_weights(path)
    assert (file.layout.wrappers, file.layout.prefix) == (("state_dict",), "module.")
    assert file.beside["optimizer"]["param_groups"][0]["lr"] == np.float64(3e-4)


class Named:
    """Pickled under a path of its choice."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple:
        return self.function, self.arguments


@pytest.mark.parametrize("function", [np.fromstring, np.random.default_rng, np.float32])
def test_other_objects_of_numpy_are_refused(tmp_path: Path, function: Any) -> None:
    content = {"state_dict": published_unimed_clip(make_unimed_clip()), "x": Named(function, 1)}
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(ValueError, match=r"objects \(numpy\S+\) that would run code"):
        open_weights(tmp_path / "w.pt")


def test_open_clip_names_are_read_and_written() -> None:
    source, model = make_unimed_clip(seed=1), make_unimed_clip(seed=2)
    theirs = to_published(source.state_dict(), OPEN_CLIP)
    assert "text.proj.2.weight" in theirs and "text.transformer.embeddings.LayerNorm.bias" in theirs
    theirs["text.transformer.embeddings.position_ids"] = torch.arange(12)[None]
    report = load_weights(model, theirs)
    assert report.complete and report.ignored == ["text.transformer.embeddings.position_ids"]
    loaded = model.state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in source.state_dict().items())


def test_systems_are_told_apart() -> None:
    model = make_unimed_clip()
    weights = published_unimed_clip(model)
    for tensors, ours in ((weights, False), (dict(model.state_dict()), True)):
        system, found, facts = recognise(tensors)
        assert system is not None and (system.name, found) == ("unimed_clip", ours)
        assert (facts["patch size"], facts["image size"], facts["width"]) == (8, 32, 64)
        assert (facts["blocks"], facts["MLP width"], facts["image head"]) == (2, 256, [64, 12])
        assert (facts["text width"], facts["text layers"], facts["text positions"]) == (8, 2, 12)
        assert facts["text head"] == [8, 10, 12] and facts["loss"] == "softmax"
    assert recognise(make_metaclip()) == (None, False, {})
    hlip = recognise(dict(make_model().state_dict()))[0]
    assert hlip is not None and hlip.name == "hlip"


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "another text tower": (
        {"text": TEXT | {"hidden_size": 16}},
        "text width: 16 in the file, 8 in the model; text head: [16, 14, 12] in the file",
    ),
    "another patch": ({"patch_size": 16, "image_size": 64}, "patch size: 16 in the file, 8 in the"),
    "a sigmoid loss": ({"logit_bias_init": 0.0}, "loss: sigmoid in the file, softmax in the model"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_does_not_fit_is_said_in_terms_of_the_configuration(case: str) -> None:
    changes, message = BAD[case]
    weights = published_unimed_clip(make_unimed_clip(**changes))
    with pytest.raises(CheckpointMismatchError, match=re.escape(message)):
        load_weights(make_unimed_clip(), weights)


@pytest.mark.parametrize("names", ["published", "ours"])
@pytest.mark.parametrize("part", ["model", "vision"])
def test_positions_of_another_image_size_are_resized_on_request_alone(
    names: str, part: str
) -> None:
    source, model = make_unimed_clip(image_size=32), make_unimed_clip(image_size=48, seed=2)
    weights = published_unimed_clip(source) if names == "published" else dict(source.state_dict())
    load = load_weights if part == "model" else load_vision
    with pytest.raises(CheckpointMismatchError, match="resize_positions=true resizes it"):
        load(model, weights)
    report = load(model, weights, resize_positions=True)
    assert report.complete and list(report.resized.values()) == ["(17, 64) to (37, 64)"]
    assert "1 resized: " in str(report)
    expected = resample_plane(source.vision.get_parameter("pos_embed"), 37)
    assert torch.equal(model.vision.get_parameter("pos_embed"), expected)


def test_nothing_is_resized_that_fits_or_is_of_another_width() -> None:
    weights = published_unimed_clip(make_unimed_clip(seed=1))
    assert load_weights(make_unimed_clip(), weights, resize_positions=True).resized == {}
    wide = make_unimed_clip(width=128, image_size=48)
    with pytest.raises(CheckpointMismatchError, match="width: 64 in the file, 128 in the model"):
        load_weights(wide, weights, resize_positions=True)


def test_the_image_tower_alone_comes_from_any_of_its_files() -> None:
    source = make_unimed_clip(seed=1)
    weights = published_unimed_clip(source)
    tower = {n.removeprefix("visual."): t for n, t in weights.items() if n.startswith("visual.")}
    for tensors in (weights, dict(source.state_dict()), tower, make_metaclip()):
        model = make_unimed_clip(seed=2)
        head = model.image_projection.weight.clone()
        assert load_vision(model, tensors).complete
        assert torch.equal(model.image_projection.weight, head)


def test_the_fingerprint_is_of_a_fixed_image() -> None:
    model = make_unimed_clip()
    first = fingerprint(model)
    assert first == fingerprint(model) and len(first.image) == 1 and len(first.text) == 2
    with torch.no_grad():
        model.vision.cls_token.add_(F.one_hot(torch.tensor(0), 64))
    assert first != fingerprint(model)
