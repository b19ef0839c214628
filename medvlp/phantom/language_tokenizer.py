"""The tokenizer of the twins' small language model: words as they are written, spaces included."""

from collections.abc import Iterator

from tokenizers import Regex, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import WordPiece

from medvlp.data.radgenome import REGIONS
from medvlp.data.radgenome_questions import WORDINGS, place_name
from medvlp.phantom.finding import LABELS
from medvlp.phantom.radgenome_words import phrase
from medvlp.phantom.reports import all_sentences, wordings
from medvlp.phantom.thorax import LOBES
from medvlp.prompts.question_set import QuestionSet

END = "<|endoftext|>"
"""Begins, ends and pads a text."""
_UNKNOWN = "[UNK]"
_SPACE = "\u2581"  # stands for a space before a word
_CHARACTERS = (
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
    "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~\u2581\n\u00b0\u00b1\u00b5\u00d7\u2013\u2014\u2019\u2264\u2265"
)
_PLACES = ("whole scan", "others", "others/thoracic cavity", "mediastinum/aorta", "heart tissue")
_PLACES = (*_PLACES, "mediastinal tissue", "bronchie", "left lung", "right lung", "lung upper lobe")
_MAX_NUMBER = 150


def build_language_tokenizer() -> Tokenizer:
    """Build a tokenizer that knows the words of the twins and spells out any other.

    Unlike that of the text towers it tells capitals apart, so that what it reads it can write.
    """
    vocabulary = list(dict.fromkeys([END, _UNKNOWN, *_spelling(), *_words()]))
    ids = {piece: number for number, piece in enumerate(vocabulary)}
    tokenizer = Tokenizer(WordPiece(ids, unk_token=_UNKNOWN, max_input_chars_per_word=100))
    tokenizer.normalizer = normalizers.Replace(" ", _SPACE)  # pyright: ignore
    tokenizer.pre_tokenizer = _splitter()  # pyright: ignore
    parts = [decoders.Replace("##", ""), decoders.Replace(_SPACE, " "), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence(parts)  # pyright: ignore
    tokenizer.add_special_tokens([END])
    return tokenizer


def _splitter() -> pre_tokenizers.PreTokenizer:
    """Cut before every word and number, which take the space before them along."""
    pattern = Regex(f"{_SPACE}?[A-Za-z]+|{_SPACE}?[0-9]+|[^A-Za-z0-9]")
    return pre_tokenizers.Split(pattern, "isolated")


def _spelling() -> list[str]:
    return [*_CHARACTERS, *(f"##{character}" for character in _CHARACTERS)]


def _words() -> list[str]:
    cut = _splitter().pre_tokenize_str
    words = {word for text in _texts() for word, _ in cut(text.replace(" ", _SPACE))}
    return [*sorted(words), *(f"{_SPACE}{number}" for number in range(_MAX_NUMBER + 1))]


def _texts() -> Iterator[str]:
    grammar = wordings()
    yield from (grammar["normal"], *grammar["techniques"], *grammar["indications"])
    yield from ("The scan was read without an earlier one.", "Yes.", "No.", " Yes. No. mm,")
    for _, _, sentence in all_sentences():
        yield from (sentence, f" {sentence}")
    names = (*map(phrase, LABELS), *LOBES, *REGIONS, *_PLACES)
    for name in names:
        yield from (name, f" {name}", f"{name[:1].upper()}{name[1:]}", place_name(name))
        yield from (f" {place_name(name)}", f" {name[:1].upper()}{name[1:]}")
    questions = [*WORDINGS.values(), *QuestionSet.load("hsenet").wordings.values()]
    for wording in {wording for some in questions for wording in some}:
        yield wording.replace("{abnormality}", "nodule").replace("{region}", "lung")
