"""CLIP's byte pairs: known ids, padding, texts that are too long, other files of merges."""

import pickle
from pathlib import Path

import pytest

from medvlp.text.clip_tokenizer import ClipTokenizer
from medvlp.types import Tokens


def test_known_ids_and_padding() -> None:
    tokens = ClipTokenizer()(["a photo of a cat", " A  DOG!! "])
    assert tokens.input_ids.tolist() == [
        [49406, 320, 1125, 539, 320, 2368, 49407],
        [49406, 320, 1929, 748, 49407, 0, 0],
    ]
    assert tokens.attention_mask.sum(1).tolist() == [7, 5]


def test_the_padding_id_is_a_word_as_well() -> None:
    tokens = ClipTokenizer(context_length=12, padding="max_length")(["!$?!%"])
    assert 0 in tokens.input_ids[0, 1:-1] and int(tokens.attention_mask.sum()) == _end(tokens) + 1


def _end(tokens: Tokens) -> int:
    return int(tokens.input_ids[0].argmax())


def test_long_texts_are_refused_or_cut_and_counted() -> None:
    words = "heart " * 9
    with pytest.raises(ValueError, match=r"takes 11 tokens .* is 8; shorten it, .*'heart"):
        ClipTokenizer(context_length=8)([words])
    tokenizer = ClipTokenizer(context_length=8, truncate=True)
    with pytest.warns(UserWarning, match="1 of 2 texts"):
        tokens = tokenizer(["liver", words])
    assert len(set(tokens.input_ids[1, 1:7].tolist())) == 1 and tokens.input_ids[1, 7] == 49407
    assert tokenizer.num_truncated == 1 and tokenizer.count(words) == 11


def test_a_special_token_that_is_spelt_out_is_text() -> None:
    ids = ClipTokenizer()(["x <end_of_text> <|endoftext|>"]).input_ids[0]
    assert (ids == 49407).sum() == 1 and ids[-1] == 49407


def test_merges_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "merges.txt").write_text("#version: 0.2\nc a\nca t</w>\n", encoding="utf-8")
    tokenizer = ClipTokenizer(str(tmp_path / "merges.txt"))
    assert tokenizer.vocab_size == 512 + 2 + 2
    copy = pickle.loads(pickle.dumps(tokenizer))
    assert copy(["cat"]).input_ids.tolist() == [[514, 513, 515]]
    with pytest.raises(FileNotFoundError, match=r"leave tokenizer\.merges out"):
        ClipTokenizer(str(tmp_path / "absent.txt"))
    (tmp_path / "wrong.txt").write_text("one two three\n", encoding="utf-8")
    with pytest.raises(ValueError, match="is no file of merges: 1 lines"):
        ClipTokenizer(str(tmp_path / "wrong.txt"))(["cat"])
