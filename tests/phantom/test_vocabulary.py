from importlib import resources

import pytest

from medvlp.phantom.reports import all_sentences
from medvlp.phantom.vocabulary import build_vocabulary
from medvlp.text.tokenizers import WordPieceTokenizer


@pytest.fixture(scope="module")
def tokenizer():
    return WordPieceTokenizer("phantom", 64)


def test_the_shipped_file_is_what_the_function_builds():
    path = resources.files("medvlp.text").joinpath("vocab/phantom.txt")
    assert path.read_text(encoding="utf-8").splitlines() == build_vocabulary()


def test_special_tokens_have_their_ids():
    assert build_vocabulary()[:5] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def test_no_token_comes_twice():
    assert len(set(build_vocabulary())) == len(build_vocabulary())


def test_words_of_the_grammar_are_single_tokens(tokenizer):
    vocabulary = build_vocabulary()
    texts = sorted({sentence for _, _, sentence in all_sentences()})
    ids = tokenizer(texts).input_ids
    assert not (ids == 1).any()
    continued = {i for i, token in enumerate(vocabulary) if token.startswith("##")}
    assert not continued & set(ids.flatten().tolist())


@pytest.mark.parametrize(
    "text",
    [
        "The volume shows: Not emphysema. The volume looks like: A nodule of 143 mm.",
        "Zygapophyseal joints with 2.5x3 cm osteophytes (L4/L5); \u00b0C, \u2264 5 \u00b5m?",
    ],
)
def test_other_english_is_spelt_out_rather_than_unknown(tokenizer, text):
    assert not (tokenizer([text]).input_ids == 1).any()
