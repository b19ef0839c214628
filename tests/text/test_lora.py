import json
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from jsonargparse import ArgumentParser

from medvlp.text.freeze import Freeze
from medvlp.text.hf_encoder import HFEncoder
from medvlp.text.lora import LoRA
from medvlp.types import Tokens

pytest.importorskip("peft")

CONFIG: dict[str, Any] = {
    "model_type": "bert",
    "vocab_size": 20,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 12,
    "hidden_dropout_prob": 0.5,
}


def make(lora: LoRA | None = None, freeze: Freeze = "all_but_layer_norm") -> HFEncoder:
    torch.manual_seed(0)
    return HFEncoder(CONFIG, freeze=freeze, lora=lora)


def tokens() -> Tokens:
    return Tokens(torch.arange(1, 7)[None], torch.ones(1, 6, dtype=torch.bool))


def test_low_rank_layers_change_nothing_at_first_and_learn() -> None:
    plain, adapted = make().eval(), make(LoRA(8, alpha=8)).eval()
    assert torch.equal(plain(tokens()), adapted(tokens()))
    optimizer = torch.optim.SGD([p for p in adapted.parameters() if p.requires_grad], lr=1.0)
    adapted(tokens()).square().sum().backward()
    optimizer.step()
    assert not torch.equal(plain(tokens()), adapted(tokens()))


@pytest.mark.parametrize("freeze", ["all_but_layer_norm", "all"])
def test_low_rank_layers_of_query_and_value_are_trained_and_the_layer_norms(
    freeze: Freeze,
) -> None:
    encoder = make(LoRA(8, alpha=8), freeze).encoder
    trained = {name for name, p in encoder.named_parameters() if p.requires_grad}
    low_rank = {name for name in trained if ".lora_" in name}
    assert {name.split(".")[5] for name in low_rank} == {"query", "value"}
    assert len(low_rank) == 2 * 2 * 2
    assert all("LayerNorm" in name for name in trained - low_rank)
    assert len(trained - low_rank) == (10 if freeze == "all_but_layer_norm" else 0)
    name = "encoder.layer.1.attention.self.value.lora_A.default.weight"
    assert encoder.get_parameter(name).shape == (8, 16)


def test_dropout_of_the_low_rank_layers_is_active_in_a_frozen_encoder() -> None:
    encoder = make(LoRA(8, alpha=8, dropout=0.5)).train()
    layer = encoder.encoder.get_submodule("encoder.layer.0.attention.self.query")
    assert not layer.training and layer.get_submodule("lora_dropout.default").training
    encoder.eval()
    assert not layer.get_submodule("lora_dropout.default").training


def test_options_that_contradict_each_other_are_refused() -> None:
    assert get_args(Freeze) == ("none", "all_but_layer_norm", "all")
    with pytest.raises(ValueError, match="LoRA trains beside a frozen text encoder"):
        HFEncoder(CONFIG, lora=LoRA(8, alpha=8))
    with pytest.raises(ValueError, match="needs a positive rank, 0 came"):
        LoRA(0, alpha=8)
    with pytest.raises(ValueError, match=r"must name linear layers of the encoder; it has dense"):
        make(LoRA(8, alpha=8, targets=["q_proj"]))


def test_the_library_is_asked_for_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "peft", None)
    with pytest.raises(ImportError, match=r"pip install 'medvlp\[llm\]'"):
        make(LoRA(8, alpha=8))


def test_jsonargparse_builds_it(tmp_path: Path) -> None:
    parser = ArgumentParser()
    parser.add_argument("--text", type=HFEncoder)
    lora = {"class_path": "medvlp.text.lora.LoRA", "init_args": {"rank": 4, "alpha": 8}}
    options = {"config": CONFIG, "freeze": "all", "lora": lora}
    tree = {"class_path": "medvlp.text.hf_encoder.HFEncoder", "init_args": options}
    parsed = parser.parse_object({"text": json.loads(json.dumps(tree))})
    encoder = parser.instantiate(parsed).text.encoder
    name = "encoder.layer.0.attention.self.query.lora_A.default.weight"
    assert encoder.get_parameter(name).shape == (4, 16)
