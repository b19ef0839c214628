"""Published files of every kind find their place, and what does not fit is said in plain terms."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from medvlp.checkpoints.adapter import CheckpointMismatchError
from medvlp.checkpoints.systems import load_vision, load_weights, recognise
from medvlp.text.lora import LoRA

from .synthetic import LAYOUTS, TEXT, make_model, published, write

KINDS: dict[str, dict[str, Any]] = {
    "single": {},
    "multi": {"num_scans": 3},
    "sigmoid": {"sigmoid": True},
    "dual": {"dual": True},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_kind_in_every_layout_is_loaded_bit_by_bit(
    tmp_path: Path, kind: str, layout: str
) -> None:
    source = make_model(seed=1, **KINDS[kind])
    model = make_model(seed=2, **KINDS[kind])
    report = load_weights(model, write(tmp_path, published(source), layout))
    assert report.complete
    loaded = model.state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in source.state_dict().items())


@pytest.mark.parametrize("kind", KINDS)
def test_our_own_names_are_recognised(tmp_path: Path, kind: str) -> None:
    source = make_model(seed=1, **KINDS[kind])
    model = make_model(seed=2, **KINDS[kind])
    path = write(tmp_path, source.state_dict(), "bare")
    assert load_weights(model, path).complete
    assert torch.equal(model.vision.cls_token, source.vision.cls_token)
    system, ours, facts = recognise(source.state_dict())
    assert system is not None and (system.name, ours) == ("hlip", True)
    assert facts == recognise(published(source))[2]


def test_the_second_scale_of_a_dual_file_is_called_a_bias() -> None:
    weights = published(make_model(dual=True)) | {"logit_bias": torch.tensor(1.25)}
    model = make_model(dual=True)
    load_weights(model, weights)
    assert model.second_logit_scale is not None and model.second_logit_scale.tolist() == [1.25]
    model = make_model(sigmoid=True)
    load_weights(model, published(make_model(sigmoid=True)) | {"logit_bias": torch.tensor(-3.0)})
    assert model.logit_bias is not None and model.logit_bias.tolist() == [-3.0]


def test_facts_are_read_from_shapes() -> None:
    facts = recognise(published(make_model(num_scans=3)))[2]
    assert facts["patch size"] == [2, 4, 4] and facts["grid"] == [2, 2, 2]
    assert (facts["width"], facts["blocks"], facts["prefix tokens"]) == (12, 2, 1)
    assert (facts["rows of the scan table"], facts["loss"]) == (3, "softmax")
    assert (facts["text vocabulary"], facts["text layers"], facts["text LoRA"]) == (20, 2, "none")
    dual = recognise(published(make_model(dual=True)))[2]
    assert dual["image head"] == [8, 24] and dual["loss"].startswith("two softmax")
    assert recognise({"weight": torch.ones(1)}) == (None, False, {})


def test_old_and_superfluous_names_are_accepted() -> None:
    weights = published(make_model())
    weights["visual.trunk.sequential_posemb"] = torch.zeros(1, 1, 12)
    weights["text.transformer.embeddings.position_ids"] = torch.arange(12)[None]
    assert load_weights(make_model(), weights).complete
    weights = published(make_model(num_scans=3))
    weights["visual.trunk.series_posemb"] = weights.pop("visual.trunk.sequential_posemb")
    assert load_weights(make_model(num_scans=3), weights).complete


def without(name: str) -> dict[str, torch.Tensor]:
    weights = published(make_model())
    del weights[name]
    return weights


BAD: dict[str, tuple[Any, str]] = {
    "a missing tensor": (
        without("visual.trunk.blocks.1.attn.qkv.weight"),
        "1 missing here (the model has it, the file does not): vision.blocks.1.attn.qkv.weight",
    ),
    "an extra tensor": (
        published(make_model()) | {"visual.trunk.extra": torch.ones(1)},
        "1 unexpected (the file has it, the model does not): visual.trunk.extra",
    ),
    "another patch size": (
        published(make_model(patch=(2, 2, 4))),
        "(patch size: [2, 2, 4] in the file, [2, 4, 4] in the model)",
    ),
    "a text tower of another width": (
        published(make_model(text=TEXT | {"hidden_size": 16})),
        "(text width: 16 in the file, 8 in the model; text head: [8, 16] in the file",
    ),
    "a model for several scans": (
        published(make_model(num_scans=3)),
        "(rows of the scan table: 3 in the file, 0 in the model)",
    ),
    "a dual model": (
        published(make_model(dual=True)),
        "(prefix tokens: 2 in the file, 1 in the model; image head: [8, 24] in the file",
    ),
    "a sigmoid model": (
        published(make_model(sigmoid=True)),
        "(loss: sigmoid in the file, softmax in the model)",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_does_not_fit_is_said_in_terms_of_the_configuration(tmp_path: Path, case: str) -> None:
    weights, message = BAD[case]
    model = make_model()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    path = write(tmp_path, weights)
    with pytest.raises(CheckpointMismatchError, match=re.escape(message)) as caught:
        load_weights(model, path)
    assert str(caught.value).startswith(f"{path} and the model do not fit together, nothing was")
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in before.items())


def test_the_image_tower_alone_comes_from_any_of_its_files() -> None:
    source = make_model(seed=1)
    trunk = {
        n.removeprefix("visual.trunk."): t
        for n, t in published(source).items()
        if n.startswith("visual.trunk.")
    }
    for weights in (published(source), source.state_dict(), trunk):
        model = make_model(seed=2)
        text = model.text_projection.weight.clone()
        assert load_vision(model, weights).complete
        assert torch.equal(model.vision.cls_token, source.vision.cls_token)
        assert torch.equal(model.text_projection.weight, text)
    with pytest.raises(CheckpointMismatchError):
        load_vision(make_model(), published(make_model(patch=(2, 2, 4))))


LORA_NAME = "text.transformer.base_model.model.encoder.layer.0.attention.self.query."


@pytest.mark.parametrize("dual", [False, True])
@pytest.mark.parametrize("layout", ["module-nested", "safetensors"])
def test_files_with_lora_carry_the_names_of_peft(tmp_path: Path, dual: bool, layout: str) -> None:
    pytest.importorskip("peft")
    options: dict[str, Any] = {"dual": dual, "freeze": "all_but_layer_norm"}
    source = make_model(seed=1, lora=LoRA(4, alpha=8), **options)
    weights = published(source)
    for name in ("base_layer.weight", "lora_A.default.weight", "lora_B.default.weight"):
        assert LORA_NAME + name in weights
    assert all(
        n.startswith("text.transformer.base_model.model.")
        for n in weights
        if n.startswith("text.transformer.")
    )
    weights["text.transformer.base_model.model.embeddings.position_ids"] = torch.arange(12)[None]
    model = make_model(seed=2, lora=LoRA(4, alpha=8), **options)
    assert load_weights(model, write(tmp_path, weights, layout)).complete
    loaded = model.state_dict()
    assert all(torch.equal(loaded[name], t) for name, t in source.state_dict().items())
    assert recognise(weights)[2]["text LoRA"] == "rank 4 on query, value"
    assert recognise(source.state_dict())[2] == recognise(weights)[2]


def test_a_lora_file_does_not_fit_a_plain_tower_nor_the_reverse() -> None:
    pytest.importorskip("peft")
    adapted = make_model(lora=LoRA(4, alpha=8), freeze="all")
    message = "(text LoRA: rank 4 on query, value in the file, none in the model)"
    with pytest.raises(CheckpointMismatchError, match=re.escape(message)):
        load_weights(make_model(), published(adapted))
    message = "(text LoRA: none in the file, rank 4 on query, value in the model)"
    with pytest.raises(CheckpointMismatchError, match=re.escape(message)):
        load_weights(adapted, published(make_model()))
