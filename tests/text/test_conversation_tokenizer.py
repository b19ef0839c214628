import pickle
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers

from medvlp.text.conversation_tokenizer import ConversationTokenizer

END = "<end>"
WORDS = ["Where", "?", "The", "lung", ".", "No", "nodule"]


@pytest.fixture
def file(tmp_path: Path) -> str:
    vocabulary = {word: number for number, word in enumerate([END, "<unk>", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()  # pyright: ignore
    tokenizer.add_special_tokens([END])
    path = tmp_path / "tokenizer.json"
    tokenizer.save(str(path))
    return str(path)


def made(file: str, **options: object) -> ConversationTokenizer:
    fields = {"max_length": 20, "num_image_tokens": 2, "end_token": END}
    return ConversationTokenizer(file, **{**fields, **options})  # type: ignore[arg-type]


def test_the_answer_and_the_first_end_are_learned(file: str) -> None:
    tokenizer = made(file)
    ids, mask, labels = tokenizer.conversation(["Where?", "Where?"], ["The lung.", "lung"])
    where, question, the, lung, stop = 2, 3, 4, 5, 6
    image = tokenizer.image_id
    prompt = [0, image, image, where, question]
    assert image == 9 and tokenizer.added_ids == [9, 10, 11, 12] and tokenizer.vocab_size == 13
    assert ids.tolist() == [[*prompt, the, lung, stop, 0], [*prompt, lung, 0, 0, 0]]
    assert mask.sum(1).tolist() == [8, 6]
    assert labels.tolist() == [
        [-100] * 5 + [the, lung, stop, 0],
        [-100] * 5 + [lung, 0, -100, -100],
    ]


def test_pad_that_is_not_the_end(file: str) -> None:
    tokenizer = made(file, padding="max_length", max_length=9)
    tokenizer._tokenizer.pad_token = "<unk>"
    ids, mask, labels = tokenizer.conversation(["Where?"], ["lung"])
    assert ids[0, 5:].tolist() == [5, 0, 1, 1] and mask.sum() == 6
    assert labels[0, 5:].tolist() == [5, 0, -100, -100]


def test_questions_alone_are_padded_on_the_left(file: str) -> None:
    tokenizer = made(file)
    ids, mask = tokenizer.prompts(["Where?", "Where The lung?"])
    assert ids.tolist() == [[0, 0, 0, 9, 9, 2, 3], [0, 9, 9, 2, 4, 5, 3]]
    assert mask[0].tolist() == [False, False, True, True, True, True, True] and mask[1].all()
    assert tokenizer.decode(torch.tensor([[4, 5, 9, 0, 0]])) == ["The lung"]


def test_a_long_answer_is_cut_and_counted(file: str) -> None:
    answer = "No nodule. The lung No nodule."
    tokenizer = made(file, max_length=10)
    with pytest.warns(UserWarning, match="1 of 1 answers are longer than 10 tokens"):
        cut = tokenizer.conversation(["Where?"], [answer])
    assert cut.input_ids[0, 5:].tolist() == cut.labels[0, 5:].tolist() == [7, 8, 6, 4, 5]
    tokenizer = made(file, max_length=10, cut="sentence")
    with pytest.warns(UserWarning, match="1 of 1 answers"):
        cut = tokenizer.conversation(["Where?"], [answer])
    assert cut.labels[0, 5:].tolist() == [7, 8, 6, 0] and tokenizer.num_truncated == 1
    tokenizer.conversation(["Where?"], ["No nodule. " * 2])  # counted, not warned of again
    assert tokenizer.num_truncated == 2


def test_what_cannot_be_tokenised_is_refused(file: str) -> None:
    with pytest.raises(ValueError, match="no room for an answer"):
        made(file, max_length=5).prompts(["Where?"])
    with pytest.raises(ValueError, match="lacks the image token '<im_patch>'"):
        made(file, special_tokens=()).prompts(["Where?"])
    with pytest.raises(ValueError, match="names no token that ends a text"):
        made(file, end_token=None).prompts(["Where?"])
    with pytest.raises(ValueError, match="no questions came"):
        made(file).prompts([])


def test_workers_load_their_own(file: str) -> None:
    tokenizer = made(file)
    tokenizer.prompts(["Where?"])
    assert "_tokenizer" not in pickle.loads(pickle.dumps(tokenizer)).__dict__
