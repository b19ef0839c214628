import json
import pickle
from pathlib import Path

import pytest
import torch

from medvlp.text.tokenizers import HFTokenizer, TextTokenizer, WordPieceTokenizer, clean

PIECES = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "the",
    "heart",
    "is",
    "large",
    "##r",
    ".",
    "no",
]


@pytest.fixture
def vocab(tmp_path: Path) -> Path:
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join(PIECES) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def hf_folder(tmp_path: Path, vocab: Path) -> Path:
    from transformers import BertTokenizer

    folder = tmp_path / "tokenizer"
    BertTokenizer(vocab=str(vocab)).save_pretrained(folder)
    return folder


def test_ids_by_hand_padded_to_the_longest(vocab: Path) -> None:
    ids, mask = WordPieceTokenizer(vocab, 16)(["The heart is LARGER.", "", "no zebra"])
    assert ids.tolist() == [
        [2, 5, 6, 7, 8, 9, 10, 3],
        [2, 3, 0, 0, 0, 0, 0, 0],
        [2, 11, 1, 3, 0, 0, 0, 0],
    ]
    assert torch.equal(mask, ids != 0)


def test_padding_to_the_context(vocab: Path) -> None:
    tokens = WordPieceTokenizer(vocab, 9, padding="max_length")(["no"])
    assert tokens.input_ids.tolist() == [[2, 11, 3, 0, 0, 0, 0, 0, 0]]


def test_long_texts_are_cut_counted_and_warned_of_once(vocab: Path) -> None:
    tokenizer = WordPieceTokenizer(vocab, 4)
    with pytest.warns(UserWarning, match="1 of 2 texts are longer than 4 tokens"):
        tokens = tokenizer(["the heart " * 5000, "no"])
    assert tokens.input_ids.tolist() == [[2, 5, 6, 3], [2, 11, 3, 0]]
    tokenizer(["the heart is large", "the heart is large"])
    assert tokenizer.num_truncated == 3


def test_cleaning() -> None:
    assert clean(" a\n\tb &amp;lt;5&amp;amp; â€œleftâ€\x9d ") == 'a b <5& "left"'


@pytest.mark.parametrize("kind", ["wordpiece", "hf"])
def test_tokenizers_travel_to_workers(vocab: Path, hf_folder: Path, kind: str) -> None:
    tokenizer: TextTokenizer = (
        WordPieceTokenizer(vocab, 8) if kind == "wordpiece" else HFTokenizer(str(hf_folder), 8)
    )
    expected = tokenizer(["the heart is large."])
    copy = pickle.loads(pickle.dumps(tokenizer))
    assert torch.equal(copy(["the heart is large."]).input_ids, expected.input_ids)


def test_the_two_tokenizers_agree(vocab: Path, hf_folder: Path) -> None:
    texts = ["The heart is larger. No!", "no", "the " * 20]
    ours, theirs = WordPieceTokenizer(vocab, 8), HFTokenizer(str(hf_folder), 8)
    with pytest.warns(UserWarning, match="2 of 3 texts"):
        expected = theirs(texts)
    with pytest.warns(UserWarning, match="2 of 3 texts"):
        actual = ours(texts)
    assert torch.equal(actual.input_ids, expected.input_ids)
    assert torch.equal(actual.attention_mask, expected.attention_mask)
    assert ours.pad_id == theirs.pad_id == 0


def test_a_special_token_in_a_text_is_that_token(vocab: Path, hf_folder: Path) -> None:
    text = "the [MASK] is [UNK] large[SEP] [mask]"
    for tokenizer in (WordPieceTokenizer(vocab, 16), HFTokenizer(str(hf_folder), 16)):
        ids = tokenizer([text]).input_ids[0].tolist()
        assert ids == [2, 5, 4, 7, 1, 8, 3, 1, 1, 1, 3]  # lower case is three unknown pieces
        written = tokenizer(["the [PAD] heart"])
        assert written.input_ids[0].tolist() == [2, 5, 0, 6, 3]
        assert written.attention_mask[0].tolist() == [True, True, False, True, True]


def test_a_tokenizer_of_code_is_read_by_its_vocabulary(vocab: Path, tmp_path: Path) -> None:
    folder = tmp_path / "cxr"
    folder.mkdir()
    code = {"AutoTokenizer": ["configuration_cxrbert.CXRBertTokenizer", None]}
    settings = {"do_lower_case": True, "tokenizer_class": "CXRBertTokenizer", "auto_map": code}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "config.json").write_text(json.dumps({"model_type": "cxr-bert", "auto_map": {}}))
    (folder / "configuration_cxrbert.py").write_text("raise SystemExit('code of the folder ran')\n")
    with pytest.raises(ValueError, match="is code of its own, which is never run, and brings no"):
        HFTokenizer(str(folder), 8)(["the heart"])
    (folder / "vocab.txt").write_bytes(vocab.read_bytes())
    texts = ["The HEART is larger.", "no"]
    expected = WordPieceTokenizer(vocab, 8)(texts)
    tokenizer = HFTokenizer(str(folder), 8)
    assert torch.equal(tokenizer(texts).input_ids, expected.input_ids)
    assert tokenizer.pad_id == 0


def test_an_unknown_vocabulary_says_what_there_is() -> None:
    with pytest.raises(FileNotFoundError, match="no vocabulary file at nowhere"):
        WordPieceTokenizer("nowhere", 8)


def test_a_vocabulary_without_special_tokens_is_refused(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("[PAD]\nheart\n")
    with pytest.raises(ValueError, match=r"lacks \[UNK\], \[CLS\], \[SEP\]"):
        WordPieceTokenizer(tmp_path / "vocab.txt", 8)


def test_no_text_and_no_room_are_refused(vocab: Path) -> None:
    with pytest.raises(ValueError, match="no texts came"):
        WordPieceTokenizer(vocab, 8)([])
    with pytest.raises(ValueError, match="context_length 1"):
        WordPieceTokenizer(vocab, 1)


@pytest.mark.parametrize("kind", ["wordpiece", "hf"])
def test_counting_is_not_cut(vocab: Path, hf_folder: Path, kind: str) -> None:
    tokenizer: TextTokenizer = (
        WordPieceTokenizer(vocab, 4) if kind == "wordpiece" else HFTokenizer(str(hf_folder), 4)
    )
    assert tokenizer.count("The heart is LARGER.") == 8
    assert tokenizer.num_truncated == 0
