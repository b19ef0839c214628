from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BertConfig, BertForMaskedLM, BertModel

from medvlp.text.hf_encoder import HFEncoder
from medvlp.types import Tokens

CONFIG: dict[str, Any] = {
    "model_type": "bert",
    "vocab_size": 20,
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 12,
    "hidden_dropout_prob": 0.5,
}


def bert_config(**options: Any) -> BertConfig:
    config: dict[str, Any] = CONFIG | options
    return BertConfig(**{name: value for name, value in config.items() if name != "model_type"})


@pytest.fixture
def tokens() -> Tokens:
    input_ids = torch.randint(1, 20, (3, 6))
    attention_mask = torch.arange(6) < torch.tensor([[6], [4], [2]])
    return Tokens(input_ids * attention_mask, attention_mask)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_padding_does_not_change_the_features(tokens: Tokens, pooling: str) -> None:
    encoder = HFEncoder(CONFIG, pooling=pooling).eval()
    noisy = tokens.input_ids.where(tokens.attention_mask, 7)
    alone = encoder(Tokens(tokens.input_ids[1:2, :4], tokens.attention_mask[1:2, :4]))
    features = encoder(Tokens(noisy, tokens.attention_mask))
    assert features.shape == (3, encoder.width)
    torch.testing.assert_close(features[1:2], alone, rtol=0, atol=1e-6)


def test_there_is_no_pooler() -> None:
    assert not any("pooler" in name for name in HFEncoder(CONFIG).state_dict())


def test_lock_text_leaves_the_layer_norms_trainable() -> None:
    encoder = HFEncoder(CONFIG, freeze="all_but_layer_norm")
    trainable = {name for name, p in encoder.named_parameters() if p.requires_grad}
    assert trainable and all("LayerNorm" in name for name in trainable)
    assert len(trainable) == 2 * (1 + 2 * 2)  # weight and bias: embeddings, two per layer
    assert not any(p.requires_grad for p in HFEncoder(CONFIG, freeze="all").parameters())


@pytest.mark.parametrize(("dropout", "same"), [(False, True), (True, False)])
def test_dropout_of_a_frozen_encoder_is_an_option(
    tokens: Tokens, dropout: bool, same: bool
) -> None:
    encoder = HFEncoder(CONFIG, freeze="all_but_layer_norm", dropout_when_frozen=dropout).train()
    assert torch.equal(encoder(tokens), encoder(tokens)) is same


def test_activation_checkpointing_changes_no_gradient(tokens: Tokens) -> None:
    gradients = []
    for activation_checkpointing in (False, True):
        torch.manual_seed(0)
        config = CONFIG | {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
        encoder = HFEncoder(config, activation_checkpointing=activation_checkpointing).train()
        encoder(tokens).square().sum().backward()
        gradients.append([p.grad for p in encoder.parameters()])
    for recomputed, kept in zip(*gradients, strict=True):
        torch.testing.assert_close(recomputed, kept, rtol=0, atol=1e-6)


def test_pretrained_weights_come_from_a_folder(tmp_path: Path, tokens: Tokens) -> None:
    source = BertForMaskedLM(bert_config()).eval()
    source.save_pretrained(tmp_path)
    hidden = source.bert(tokens.input_ids, tokens.attention_mask).last_hidden_state[:, 0]
    for config in (None, CONFIG):
        encoder = HFEncoder(config, pretrained=str(tmp_path)).eval()
        torch.testing.assert_close(encoder(tokens), hidden, rtol=0, atol=1e-6)


def test_incomplete_pretrained_weights_are_refused(tmp_path: Path) -> None:
    BertModel(bert_config(num_hidden_layers=1)).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="lacks 16 weights"):
        HFEncoder(CONFIG, pretrained=str(tmp_path))


def test_wrong_use_says_what_to_do(tokens: Tokens) -> None:
    with pytest.raises(ValueError, match="needs `config`"):
        HFEncoder()
    with pytest.raises(ValueError, match="choose cls, mean"):
        HFEncoder(CONFIG, pooling="max")
    with pytest.raises(ValueError, match="has 4 positions"):
        HFEncoder(CONFIG | {"max_position_embeddings": 4})(tokens)
