import json
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


@pytest.mark.parametrize("pooling", ["cls", "mean", "max"])
def test_padding_does_not_change_the_features(tokens: Tokens, pooling: str) -> None:
    encoder = HFEncoder(CONFIG, pooling=pooling).eval()
    noisy = tokens.input_ids.where(tokens.attention_mask, 7)
    alone = encoder(Tokens(tokens.input_ids[1:2, :4], tokens.attention_mask[1:2, :4]))
    features = encoder(Tokens(noisy, tokens.attention_mask))
    assert features.shape == (3, encoder.width)
    torch.testing.assert_close(features[1:2], alone, rtol=0, atol=1e-6)


LENGTHS = {"mixed": [3, 12, 5, 4, 7], "short": [3, 3, 3], "long": [12, 12], "single": [6]}


@pytest.mark.parametrize("groups", [2, 4])
@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
@pytest.mark.parametrize("pooling", ["cls", "mean", "max"])
def test_groups_of_similar_length_have_the_features_of_all_at_once(
    lengths: list[int], groups: int, pooling: str
) -> None:
    torch.manual_seed(0)
    whole = HFEncoder(CONFIG, pooling=pooling).eval()
    grouped = HFEncoder(CONFIG, pooling=pooling, length_groups=groups).eval()
    grouped.load_state_dict(whole.state_dict())
    seen: list[tuple[int, ...]] = []
    grouped.encoder.embeddings.register_forward_hook(
        lambda _module, _inputs, output: seen.append(tuple(output.shape[:2]))
    )
    mask = torch.arange(12) < torch.tensor(lengths)[:, None]
    mask[0, 1] = False  # as a padding token that is written in a text
    padded = Tokens(torch.randint(1, 20, mask.shape) * mask, mask)
    results = [encoder(padded) for encoder in (whole, grouped)]
    torch.testing.assert_close(results[1], results[0], rtol=0, atol=1e-6)
    assert len(seen) == min(groups, len(lengths)) and sum(rows for rows, _ in seen) == len(lengths)
    if groups == 2 and lengths == LENGTHS["mixed"]:
        assert seen == [(3, 5), (2, 12)]
    for result in results:
        result.square().mean().backward()
    for one, other in zip(whole.parameters(), grouped.parameters(), strict=True):
        assert one.grad is not None and other.grad is not None
        torch.testing.assert_close(other.grad, one.grad, rtol=0, atol=1e-5)


def test_no_groups_are_refused() -> None:
    with pytest.raises(ValueError, match="length_groups is 0, expected 1"):
        HFEncoder(CONFIG, length_groups=0)


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
        HFEncoder(CONFIG, pooling="median")
    with pytest.raises(ValueError, match="has 4 positions"):
        HFEncoder(CONFIG | {"max_position_embeddings": 4})(tokens)


def cxr_bert(folder: Path, **options: Any) -> BertForMaskedLM:
    """Write a folder like that of CXR-BERT: a masked-LM class of its own around a plain BERT."""
    source = BertForMaskedLM(bert_config(**options)).eval()
    weights = dict(source.state_dict())
    weights["cls_projection_head.dense_to_hidden.weight"] = torch.zeros(4, 8)
    weights["bert.embeddings.position_ids"] = torch.arange(12)[None]
    weights["bert.pooler.dense.weight"] = torch.zeros(8, 8)
    torch.save(weights, folder / "pytorch_model.bin")
    config = {
        "model_type": "cxr-bert",
        "architectures": ["CXRBertModel"],
        "auto_map": {"AutoModel": "modeling_cxrbert.CXRBertModel"},
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "modeling_cxrbert.py").write_text("raise SystemExit('code of the folder ran')\n")
    return source


def test_cxr_bert_is_read_without_its_code_or_its_heads(tmp_path: Path, tokens: Tokens) -> None:
    source = cxr_bert(tmp_path)
    encoder = HFEncoder(CONFIG, pretrained=str(tmp_path)).eval()
    for name, tensor in encoder.encoder.state_dict().items():
        assert torch.equal(tensor, source.bert.state_dict()[name])
    hidden = source.bert(tokens.input_ids, tokens.attention_mask).last_hidden_state[:, 0]
    torch.testing.assert_close(encoder(tokens), hidden, rtol=0, atol=1e-6)
    with pytest.raises(ValueError, match="brings code of its own for model_type 'cxr-bert'"):
        HFEncoder(pretrained=str(tmp_path))


def test_a_hub_name_is_found_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "microsoft/BiomedVLP-CXR-BERT-specialized"
    repository = tmp_path / f"models--{name.replace('/', '--')}"
    snapshot = repository / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("a" * 40)
    source = cxr_bert(snapshot)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    encoder = HFEncoder(CONFIG, pretrained=name).encoder
    assert torch.equal(
        encoder.embeddings.word_embeddings.weight, source.bert.embeddings.word_embeddings.weight
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_hidden_layers": 3}, "has 16 weights that the text encoder has no place for"),
        ({"num_hidden_layers": 1}, "lacks 16 weights of the text encoder"),
        ({"hidden_size": 16}, r"another shape .*embeddings\S*: \[16\] there, \[8\] here"),
        ({"vocab_size": 30}, r"1 weights of another shape .*\[30, 8\] there, \[20, 8\] here"),
    ],
)
def test_pretrained_weights_of_another_encoder_are_refused(
    tmp_path: Path, options: dict[str, int], message: str
) -> None:
    cxr_bert(tmp_path, **options)
    with pytest.raises(ValueError, match=message):
        HFEncoder(CONFIG, pretrained=str(tmp_path))


def trainable(encoder: HFEncoder) -> set[str]:
    return {name for name, p in encoder.encoder.named_parameters() if p.requires_grad}


def test_the_last_parts_may_be_unlocked() -> None:
    everything = trainable(HFEncoder(CONFIG))
    last = {name for name in everything if name.startswith("encoder.layer.1.")}
    layers = {name for name in everything if name.startswith("encoder.layer.")}
    norms = {name for name in everything if "LayerNorm" in name}
    assert trainable(HFEncoder(CONFIG, freeze="all", unlocked_layers=1)) == last
    assert trainable(HFEncoder(CONFIG, freeze="all_but_layer_norm", unlocked_layers=1)) == (
        last | norms
    )
    assert trainable(HFEncoder(CONFIG, freeze="all", unlocked_layers=2)) == layers
    assert trainable(HFEncoder(CONFIG, freeze="all", unlocked_layers=3)) == everything
    with pytest.raises(ValueError, match="has 3 parts, embeddings and 2 layers"):
        HFEncoder(CONFIG, freeze="all", unlocked_layers=4)
    with pytest.raises(ValueError, match="no meaning for a free text encoder"):
        HFEncoder(CONFIG, unlocked_layers=1)


def test_dropout_is_active_where_something_is_trained() -> None:
    encoder = HFEncoder(CONFIG, freeze="all", unlocked_layers=1).train()
    layers = encoder.encoder.encoder.layer
    assert not layers[0].training and not encoder.encoder.embeddings.training
    assert layers[1].training and not layers[1].eval().training
