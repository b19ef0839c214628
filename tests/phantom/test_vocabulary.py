from dataclasses import replace
from importlib import resources

import numpy as np
import pytest

from medvlp.phantom.head_reports import TERMS, write_head_report
from medvlp.phantom.head_study import sample_head_study
from medvlp.phantom.mr_rate_plan import TERMS as MR_RATE_TERMS
from medvlp.phantom.reports import all_sentences
from medvlp.phantom.vocabulary import build_vocabulary
from medvlp.text.tokenizers import WordPieceTokenizer


@pytest.fixture(scope="module")
def tokenizer():
    return WordPieceTokenizer("phantom", 128)


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


@pytest.mark.parametrize("kind", TERMS)
def test_words_of_head_reports_are_single_tokens(tokenizer, kind):
    vocabulary = build_vocabulary()
    large = kind == "ventriculomegaly"
    for number in range(40):
        study = sample_head_study((number,), (number, 1), () if large else (kind,))
        study = replace(study, large_ventricles=large)
        for terms in (TERMS, MR_RATE_TERMS):
            report = write_head_report(study, np.random.default_rng(number), terms=terms)
            ids = tokenizer([report.findings, report.impression]).input_ids
            tokens = {vocabulary[i] for i in ids.flatten().tolist()}
            assert "[UNK]" not in tokens
            assert not [token for token in tokens if token.startswith("##")]


def test_ids_of_the_chest_words_do_not_depend_on_the_head():
    # the first word of the heads' own follows the largest number
    assert build_vocabulary().index("acute") == 582


@pytest.mark.parametrize(
    "text",
    [
        "The volume shows: Not emphysema. The volume looks like: A nodule of 143 mm.",
        "Zygapophyseal joints with 2.5x3 cm osteophytes (L4/L5); \u00b0C, \u2264 5 \u00b5m?",
    ],
)
def test_other_english_is_spelt_out_rather_than_unknown(tokenizer, text):
    assert not (tokenizer([text]).input_ids == 1).any()
