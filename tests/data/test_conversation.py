from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from medvlp.data.collate import Collate
from medvlp.data.conversation import Conversations
from medvlp.data.cut_texts import CutTexts
from medvlp.data.plain_report import PlainReport
from medvlp.data.statements import statements_of
from medvlp.data.text_sampler import TextUnit
from medvlp.data.texts import ReportText
from medvlp.data.transfer import move
from medvlp.data.volume_dataset import Sample
from medvlp.prompts.question_set import QuestionSet
from medvlp.types import Conversation, Tokens

PROMPT = "Can you summarize with findings the images presented?"
LOCATION = {
    "question": "Where is the nodule located in the image?",
    "answer": "Lung/Right lower lobe",
    "kind": "location",
    "subject": "nodule",
}
SECTIONS = {"findings": 'Heart "size" (normal)', "impression": "Normal."}


class Numbers:
    """A language model's tokenizer that counts characters."""

    num_truncated = 0

    def __call__(self, texts: Sequence[str]) -> Tokens:
        raise AssertionError("plain texts")

    def conversation(self, questions: Sequence[str], answers: Sequence[str]) -> Conversation:
        self.num_truncated += 1
        ids = torch.tensor([[len(q), len(a)] for q, a in zip(questions, answers, strict=True)])
        return Conversation(ids, ids > 0, ids)


def plain(texts: Sequence[str]) -> Tokens:
    ids = torch.tensor([[len(text)] for text in texts])
    return Tokens(ids, ids > 0)


def chance(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def ask(seed: int = 0, **options: Any) -> TextUnit:
    fields = {"sections": SECTIONS, "target": None, "training": True, **options}
    (unit,) = Conversations().about(
        fields["sections"], fields["target"], chance(seed), training=fields["training"]
    )
    return unit


def sample(texts: list[TextUnit]) -> Sample:
    return Sample(
        inputs=[{"image": torch.zeros(1, 1, 1, 1)}],
        study_id="a",
        sample_id="a",
        patient_id="p",
        labels=[],
        texts=texts,
        statements=(),
    )


def test_a_report_is_asked_for_in_many_words_and_in_evaluations_in_the_same() -> None:
    asked = {str(ask(seed).question) for seed in range(300)}
    assert len(asked) == 41  # of 42 published sentences two are the same
    unit = ask(training=False)
    assert unit.question == PROMPT and unit.text == "Heart size normal"
    assert unit.statements == statements_of([SECTIONS["findings"]])


def test_a_question_of_the_data_set_is_put_in_other_words_while_training() -> None:
    asked = {str(ask(seed, target=LOCATION).question) for seed in range(400)}
    assert len(asked) == 48 and all("nodule" in question for question in asked)
    unit = ask(target=LOCATION, training=False, sections={})
    assert (unit.question, unit.text) == (LOCATION["question"], LOCATION["answer"])
    old = {name: value for name, value in LOCATION.items() if name != "subject"}
    assert ask(target=old).question == LOCATION["question"]
    assert ask(target={"lesion_id": "1"}, training=False).question == PROMPT


def test_a_report_that_is_not_there() -> None:
    conversations = Conversations()
    assert not conversations.has_texts({"texts": {}, "questions": []})
    assert conversations.has_texts({"texts": {}, "questions": [LOCATION]})
    assert ask(sections={}, training=False).text == ""
    assert conversations.lacks({"impression": "Normal."}) == ("findings",)
    assert PlainReport().text({"impression": "(Normal)."}) == "Normal."


def test_question_sets_are_files(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"report": ["Say it."]}))
    (unit,) = Conversations(str(path)).evaluation(SECTIONS, chance())
    assert unit.question == "Say it."
    path.write_text(yaml.safe_dump({"report": []}))
    with pytest.raises(ValueError, match=r"mine.yaml: report is \[\], expected a list"):
        QuestionSet.load(str(path))
    path.write_text(yaml.safe_dump({"location": ["Where?"]}))
    with pytest.raises(ValueError, match="no 'report'; add some"):
        Conversations(str(path))
    with pytest.raises(FileNotFoundError, match="shipped are hsenet"):
        QuestionSet.load("nowhere")


def test_a_batch_of_conversations() -> None:
    tokenizer = Numbers()
    units = [ask(training=False), ask(target=LOCATION, training=False)]
    batch = Collate(tokenizer, "hash")([sample([unit]) for unit in units])
    assert batch["question"] == [PROMPT, LOCATION["question"]]
    assert batch["answer"] == ["Heart size normal", "Lung/Right lower lobe"]
    assert batch["conversation"].input_ids.tolist() == [[len(PROMPT), 17], [41, 21]]
    assert batch["num_truncated"] == 1 and "tokens" not in batch
    moved = move(batch, torch.device("cpu"))
    assert isinstance(moved["conversation"], Conversation)
    cut = CutTexts()
    cut.count(batch)
    assert (cut.num_texts, cut.num_cut) == (2, 1)


def test_tokenizer_and_texts_must_belong_together() -> None:
    talk, report = [ask()], ReportText()(SECTIONS, chance())
    with pytest.raises(ValueError, match="are conversations, and function makes none"):
        Collate(plain, "hash")([sample(talk)])
    with pytest.raises(ValueError, match="Numbers takes questions with answers"):
        Collate(Numbers(), "hash")([sample(report)])
    with pytest.raises(ValueError, match="2 texts of 2 studies, and not one question"):
        Collate(Numbers(), "hash")([sample(talk), sample(report)])
    assert "conversation" not in Collate(None, "hash")([sample(talk)])
