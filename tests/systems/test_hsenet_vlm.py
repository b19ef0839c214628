from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from medvlp.evaluation.protocol import Evaluation
from medvlp.models.hsenet_vlm import HSENetVLM
from medvlp.optim.schedules import WarmupCosine
from medvlp.systems.hsenet_vlm import HSENetVLMSystem
from medvlp.text.conversation_tokenizer import ConversationTokenizer
from medvlp.text.language_model import LanguageModel
from medvlp.text.lora import LoRA
from medvlp.types import VolumeBatch
from tests.models.tiny_vlm import LLM, SIZE, WORDS, make_tokenizer, make_vlm
from tests.systems.tiny import Record, fit, ignore_advice, loader, make_trainer

QUESTIONS = ["what is it", "where is a nodule"]
ANSWERS = ["a normal heart", "lung"]


class Exact(Evaluation):
    """The share of answers that are the true ones, word for word."""

    def __init__(self) -> None:
        self.scored: list[dict[str, Any]] = []

    def prepare(self, embed_text: Any, logit_scale: Tensor, device: torch.device) -> None:
        raise AssertionError("a language model has no embeddings")

    def update(self, outcome: Any, batch: VolumeBatch, /) -> None:
        truths = zip(batch["sample_id"], outcome, batch["answer"], strict=True)
        self.scored += [{"sample_id": k, "right": float(a == b)} for k, a, b in truths]

    def rows(self) -> list[dict[str, Any]]:
        return list(self.scored)

    def compute(self, rows: list[dict[str, Any]]) -> Any:
        share = sum(row["right"] for row in rows) / len(rows)
        return SimpleNamespace(metrics=lambda: {"exact": share})

    @property
    def class_names(self) -> list[str]:
        return []

    def reset(self) -> None:
        self.scored = []


def make_batch(tokenizer: ConversationTokenizer, step: int = 0) -> VolumeBatch:
    generator = torch.Generator().manual_seed(step)
    return VolumeBatch(
        image=torch.randn(2, 1, *SIZE, generator=generator),
        num_scans=torch.ones(2, dtype=torch.int64),
        slice_features=torch.randn(2, 3, 6, generator=generator),
        study_id=["one", "two"],
        sample_id=["one", "two"],
        patient_id=["one", "two"],
        recipe_hash="tiny",
        question=QUESTIONS,
        answer=ANSWERS,
        conversation=tokenizer.conversation(QUESTIONS, ANSWERS),
    )


def make_system(model: HSENetVLM, tokenizer: ConversationTokenizer) -> HSENetVLMSystem:
    return HSENetVLMSystem(
        model,
        tokenizer,
        optimizer=lambda groups: torch.optim.AdamW(groups, lr=0.02),
        schedule=WarmupCosine(2),
        evaluations={"exact": Exact()},
        max_new_tokens=8,
    )


def validate(system: HSENetVLMSystem, batch: VolumeBatch, method: str = "validate") -> Any:
    import warnings

    with warnings.catch_warnings():
        ignore_advice()
        return getattr(make_trainer(), method)(system, loader([batch]))


def test_it_learns_answers_and_writes_them(tmp_path: Path) -> None:
    tokenizer, record = make_tokenizer(tmp_path), Record()
    system, batch = make_system(make_vlm(), tokenizer), make_batch(tokenizer)
    frozen = [p.clone() for p in system.model.guided_vision.parameters()]
    fit(make_trainer(max_steps=60, max_epochs=-1, callbacks=[record]), system, [batch])
    assert record.losses[-1] < 0.1 * record.losses[0]
    validate(system, batch)
    assert system.results["exact"].metrics() == {"exact": 1.0}
    (told,) = validate(system, batch, "predict")
    assert told["generated"] == told["truth"] == ANSWERS and told["question"] == QUESTIONS
    for before, after in zip(frozen, system.model.guided_vision.parameters(), strict=True):
        assert torch.equal(before, after)


def test_only_packers_and_low_rank_layers_get_gradients(tmp_path: Path) -> None:
    pytest.importorskip("peft")
    tokenizer = make_tokenizer(tmp_path)
    vocab = {**LLM, "vocab_size": len(WORDS) + 4}
    language = LanguageModel(vocab, lora=LoRA(2, alpha=4, targets=None))
    model = make_vlm(language=language).train()
    make_system(model, tokenizer).model(
        *(make_batch(tokenizer)[name] for name in ("image", "num_scans", "slice_features")),
        make_batch(tokenizer)["conversation"],
    ).loss.backward()
    moved = {name for name, p in model.named_parameters() if p.grad is not None}
    assert all(name.startswith(("packer.", "guided_packer.")) or ".lora_" in name for name in moved)
    assert moved == {name for name, p in model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("compat", [None, "published"])
def test_frozen_towers_are_deterministic_unless_as_published(compat: Any, tmp_path: Path) -> None:
    model, batch = make_vlm(compat=compat).train(), make_batch(make_tokenizer(tmp_path))
    seen = [
        model.look(batch["image"], batch["num_scans"], batch.get("slice_features")).guided
        for _ in range(2)
    ]
    assert torch.equal(*seen) == (compat is None)


def test_answers_are_alike_alone_and_in_a_batch(tmp_path: Path) -> None:
    tokenizer = make_tokenizer(tmp_path)
    system, batch = make_system(make_vlm(), tokenizer), make_batch(tokenizer)
    fit(make_trainer(max_steps=12, max_epochs=-1), system, [batch])
    system.eval()
    for row, together in enumerate(system.answers(batch)):
        alone = {
            name: value[row : row + 1] if isinstance(value, (Tensor, list)) else value
            for name, value in batch.items()
            if name != "conversation"
        }
        assert system.answers(cast(VolumeBatch, alone)) == [together]


def test_one_packer_may_serve_both_towers(tmp_path: Path) -> None:
    model, batch = make_vlm(shared_packer=True).eval(), make_batch(make_tokenizer(tmp_path))
    towers = model.look(batch["image"], batch["num_scans"], batch.get("slice_features"))
    expected = torch.cat([model.packer(tokens) for tokens in towers], dim=1)
    assert torch.equal(model.pack(towers), expected) and model.num_image_tokens == 4


def test_the_image_stands_behind_the_first_token_wherever_padding_is() -> None:
    model = make_vlm().eval()
    words = torch.randn(2, 8, 16)
    image = torch.randn(2, 4, 16)
    mask = torch.tensor([[0, 0, 1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1, 0, 0]]).bool()
    merged = model.merge(words, image, mask)
    assert torch.equal(merged[0, 3:7], image[0]) and torch.equal(merged[1, 1:5], image[1])
    assert torch.equal(merged[0, [0, 1, 2, 7]], words[0, [0, 1, 2, 7]])


def test_bad_input_is_told(tmp_path: Path) -> None:
    tokenizer = make_tokenizer(tmp_path)
    batch, model = make_batch(tokenizer), make_vlm().eval()
    with pytest.raises(ValueError, match=r"set tokenizer\.num_image_tokens=4"):
        make_system(model, make_tokenizer(tmp_path, num_image_tokens=3))
    with pytest.raises(ValueError, match="no room for 4 image tokens"):
        model.merge(torch.randn(1, 4, 16), torch.randn(1, 4, 16), torch.ones(1, 4).bool())
    with pytest.raises(ValueError, match="features of each scan's slices and none came"):
        model.look(batch["image"], batch["num_scans"], None)
    with pytest.raises(ValueError, match="2 scans came for 1 studies"):
        model.look(batch["image"], torch.tensor([2]), batch.get("slice_features"))
    small = make_vlm(language=LanguageModel({**LLM, "vocab_size": 11}))
    with pytest.raises(ValueError, match=r"15 tokens, .*<im_patch>.* set model.language.vocab"):
        validate(make_system(small, tokenizer), batch)
    silent, unasked = (
        cast(VolumeBatch, {name: value for name, value in batch.items() if name != left_out})
        for left_out in ("conversation", "question")
    )
    system = make_system(make_vlm(), tokenizer)
    with pytest.raises(ValueError, match="no conversations"):
        fit(make_trainer(), system, [silent])
    with pytest.raises(ValueError, match="no questions"):
        validate(system, unasked)
