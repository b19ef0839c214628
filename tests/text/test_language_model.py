import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from medvlp.text.language_model import Ending, LanguageModel
from medvlp.text.lora import LoRA
from medvlp.text.vocabulary import resize_vocabulary

CONFIG: dict[str, Any] = {
    "model_type": "phi3",
    "vocab_size": 30,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "intermediate_size": 24,
    "max_position_embeddings": 64,
    "original_max_position_embeddings": 64,
    "tie_word_embeddings": True,
}
LLAMA: dict[str, Any] = {**CONFIG, "model_type": "llama"}
MASK = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0]]).bool()
IDS = torch.tensor([[1, 5, 9, 3, 4, 0], [1, 6, 2, 0, 0, 0]])


def make(config: dict[str, Any] = CONFIG, **options: Any) -> LanguageModel:
    torch.manual_seed(0)
    return LanguageModel(config, **options).eval()


@pytest.mark.parametrize("config", [CONFIG, LLAMA], ids=["phi3", "llama"])
def test_the_loss_is_the_mean_over_all_tokens_to_learn(config: dict[str, Any]) -> None:
    model = make(config)
    labels = torch.tensor([[-100, -100, 9, 3, 4, 0], [-100, -100, -100, 0, -100, -100]])
    scores = model(model.embed(IDS), MASK)
    wanted = [(0, 1), (0, 2), (0, 3), (0, 4), (1, 2)]
    each = [F.cross_entropy(scores[row, k], labels[row, k + 1]) for row, k in wanted]
    loss = model.loss(model.embed(IDS), MASK, labels)
    torch.testing.assert_close(loss, torch.stack(each).mean(), rtol=0, atol=1e-6)


def test_nothing_to_learn_is_told() -> None:
    model = make()
    with pytest.raises(ValueError, match="raise the tokenizer's max_length"):
        model.loss(model.embed(IDS), MASK, torch.full_like(IDS, -100))


def test_an_id_without_a_row_is_told() -> None:
    with pytest.raises(ValueError, match=r"id 30, the language model knows 30; set .*vocab_size"):
        make().embed(torch.tensor([[1, 30]]))


@pytest.mark.parametrize("config", [CONFIG, LLAMA], ids=["phi3", "llama"])
def test_a_row_is_continued_alike_alone_and_in_a_batch(config: dict[str, Any]) -> None:
    model = make(config)
    model.decoder.get_input_embeddings().weight.data.mul_(20)  # words of some difference
    rows = [torch.randint(1, 30, (length,)) for length in (7, 3, 5)]
    padded = torch.stack([F.pad(row, (7 - len(row), 0)) for row in rows])
    mask = torch.stack([torch.arange(7) >= 7 - len(row) for row in rows])
    ending = Ending(8, [0], 0)
    together = model.generate(model.embed(padded), mask, ending)
    for row, answer in zip(rows, together, strict=True):
        alone = model.generate(
            model.embed(row[None]), torch.ones(1, len(row), dtype=torch.bool), ending
        )
        assert torch.equal(F.pad(alone[0], (0, len(answer) - alone.shape[1])), answer)
    answer = together[1].tolist()
    answer = answer[: answer.index(0) + 1] if 0 in answer else answer
    ids = rows[1]
    for expected in answer:  # the whole row anew for each word
        scores = model(model.embed(ids[None]), torch.ones(1, len(ids), dtype=torch.bool))
        assert int(scores[0, -1].argmax()) == expected
        ids = torch.cat([ids, torch.tensor([expected])])


def test_what_follows_the_end_is_padding() -> None:
    model = make()
    embeddings, mask = model.embed(IDS[:1]), torch.ones(1, 6, dtype=torch.bool)
    free = model.generate(embeddings, mask, Ending(5, [0], 0))
    second = int(free[0, 0])
    two = embeddings.expand(2, -1, -1).clone()
    two[1] = model.embed(torch.tensor([[1, 7, 11, 13, 2, 8]]))[0]
    ended = model.generate(two, mask.expand(2, -1), Ending(5, [second, 29], 3))
    assert ended[0, 0] == second and (ended[0, 1:] == 3).all()


def test_a_prompt_beyond_the_context_is_told() -> None:
    model = make()
    with pytest.raises(ValueError, match=r"prompt of 6 tokens and 60 new ones exceed .* of 64"):
        model.generate(model.embed(IDS), MASK, Ending(60, [0], 0))


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("size", [26, 34, None])
def test_added_tokens_start_as_the_mean_of_all_others(size: int | None, tied: bool) -> None:
    config = {**CONFIG, "tie_word_embeddings": tied}
    before = make(config).decoder.get_output_embeddings().weight
    decoder = make(config, vocab_size=size, num_added_tokens=4).decoder
    words, head = decoder.get_input_embeddings().weight, decoder.get_output_embeddings().weight
    assert len(words) == len(head) == decoder.config.vocab_size == (size or 30)
    for table in (words, head):
        torch.testing.assert_close(table[-4:], table[:-4].mean(0).expand(4, -1))
    assert (words is head) == tied
    kept = min(len(before), len(head) - 4)
    assert torch.equal(head[:kept], before[:kept])


def test_more_added_tokens_than_rows_are_told() -> None:
    with pytest.raises(ValueError, match="30 added tokens do not fit a vocabulary of 30"):
        resize_vocabulary(make().decoder, None, 30)


def test_low_rank_layers_of_all_linear_layers_learn_alone() -> None:
    pytest.importorskip("peft")
    model = make(lora=LoRA(4, alpha=8, dropout=0.5, targets=None)).train()
    trained = {n.split(".lora_")[0] for n, p in model.named_parameters() if p.requires_grad}
    layers = ("self_attn.qkv_proj", "self_attn.o_proj", "mlp.gate_up_proj", "mlp.down_proj")
    assert trained == {f"decoder.model.layers.{k}.{layer}" for k in range(2) for layer in layers}
    in_training = {name for name, module in model.decoder.named_modules() if module.training}
    assert in_training and all("lora_dropout" in name for name in in_training)
    labels = IDS.masked_fill(~MASK, -100)
    model.loss(model.embed(IDS), MASK, labels).backward()
    assert all((p.grad is not None) == p.requires_grad for p in model.parameters())


def test_recomputed_layers_of_a_frozen_model_give_the_same_gradients() -> None:
    pytest.importorskip("peft")
    gradients, calls = [], []
    for recompute in (False, True):
        lora = LoRA(4, alpha=8, targets=None)
        model = make(lora=lora, activation_checkpointing=recompute).train()
        count: list[int] = []
        layer = model.decoder.model.layers[0].mlp
        layer.register_forward_pre_hook(lambda *_, count=count: count.append(1))
        model.loss(model.embed(IDS), MASK, IDS).backward()
        gradients.append([p.grad for p in model.parameters() if p.requires_grad])
        calls.append(len(count))
    torch.testing.assert_close(gradients[0], gradients[1])
    assert calls == [1, 2]


def test_low_rank_layers_of_half_precision_weights_are_whole() -> None:
    pytest.importorskip("peft")
    model = make(lora=LoRA(4, alpha=8, targets=None), dtype="bfloat16")
    kinds = {p.requires_grad: p.dtype for p in model.parameters()}
    assert kinds == {True: torch.float32, False: torch.bfloat16}
    assert model(model.embed(IDS), MASK).dtype == torch.bfloat16


@pytest.mark.parametrize("with_head", [True, False])
def test_weights_load_with_and_without_the_tied_head(with_head: bool, tmp_path: Path) -> None:
    source = make()
    source.decoder.save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    weights = load_file(file)
    weights.pop("lm_head.weight", None)
    if with_head:
        weights["lm_head.weight"] = weights["model.embed_tokens.weight"].clone()
    save_file(weights, file, metadata={"format": "pt"})
    for config in (CONFIG, None):
        loaded = LanguageModel(config, pretrained=str(tmp_path)).eval()
        assert torch.equal(loaded(loaded.embed(IDS), MASK), source(source.embed(IDS), MASK))


def test_weights_of_another_architecture_are_told(tmp_path: Path) -> None:
    make().decoder.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="lacks 6 weights of the language model"):
        LanguageModel({**CONFIG, "num_hidden_layers": 3}, pretrained=str(tmp_path))
    with pytest.raises(ValueError, match="weights of another shape"):
        LanguageModel({**CONFIG, "intermediate_size": 20}, pretrained=str(tmp_path))
    with pytest.raises(ValueError, match="that the language model has no place for"):
        LanguageModel({**CONFIG, "num_hidden_layers": 1}, pretrained=str(tmp_path))


def test_code_of_a_repository_is_never_run(tmp_path: Path) -> None:
    make().decoder.save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    told = json.loads(file.read_text()) | {"auto_map": {"AutoConfig": "code.Config"}}
    file.write_text(json.dumps(told))
    with pytest.raises(ValueError, match="code of its own for model_type 'phi3'"):
        LanguageModel(pretrained=str(tmp_path))
    assert LanguageModel(CONFIG, pretrained=str(tmp_path)).vocab_size == 30


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "needs `config`"),
        ({"config": {"vocab_size": 3}}, "must name its model_type"),
        ({"config": {"model_type": "vit"}}, "no causal language model of model_type 'vit'"),
        ({"config": CONFIG, "quantization": "int8"}, "int8 is made of trained weights"),
    ],
)
def test_what_cannot_be_built_is_told(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LanguageModel(**options)


def test_bytes_need_their_library(tmp_path: Path) -> None:
    make().decoder.save_pretrained(tmp_path)
    try:
        import bitsandbytes  # noqa: F401  # pyright: ignore[reportMissingImports]
    except ImportError:
        with pytest.raises(ImportError, match="pip install bitsandbytes"):
            LanguageModel(pretrained=str(tmp_path), quantization="int8")
