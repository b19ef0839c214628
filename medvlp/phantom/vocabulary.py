"""The WordPiece vocabulary of the phantom twins: small, complete for their grammar, open to all."""

import re
from collections.abc import Iterator

from medvlp.phantom.finding import LABELS
from medvlp.phantom.head_reports import all_wordings
from medvlp.phantom.mr_rate_plan import TERMS as MR_RATE_TERMS
from medvlp.phantom.reports import all_sentences, wordings

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")

_CHARACTERS = (
    "abcdefghijklmnopqrstuvwxyz0123456789!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"
    "\u00b0\u00b1\u00b5\u00d7\u2013\u2014\u2018\u2019\u201c\u201d\u2026\u2264\u2265\u0131"
)
_PIECES = """
    able al an ary ate ated ation ed en ent er es est ial ic ical ing ion ism ist itis ity ive
    ization less ly ment ness oma or osis ous s sis th tic tion y
"""
_MAX_NUMBER = 150

_PROMPT_FRAMES = (
    "The volume shows: The volume looks like: The lung heart aorta esophagus shows:"
    " This study shows: there is observed present. onsistent consistent with compatible with"
    " no significant abnormalities. identified noted seen new known prominent likely possibly"
    " indicating reflecting representing suggesting indicative of suggestive of related to"
    " opacity nodule calcification"
)
_MR_FRAMES = "Headache. Multiplanar multisequence MRI of the brain. The scan shows: head CT, MR."
_COMMON = """
    a about after all also an and are area as at be been before between bilateral both but by
    can case change changes chest clinical compared consistent ct density detected dimension
    disease due enlarged evaluated examination finding findings focal for from had has have he
    her his image images in increased into is it its left less level liver lobe lobes lower
    lung lungs lymph main mass may measuring mediastinal mild minimal mm more most multiple
    normal nodes nodules observed of old on one or other part patient pleural right scan
    sections she side size small space spleen stable structures study than that the there
    these this thorax to trachea two unremarkable upper vascular vertebral was were which who
    with within year
"""


def spelling() -> list[str]:
    """Return the special tokens, characters and endings with which any text can be spelt out."""
    letters = [c for c in _CHARACTERS if c.isalnum()]
    pieces = (*letters, *_PIECES.split())
    return [*SPECIAL_TOKENS, *_CHARACTERS, *(f"##{piece}" for piece in pieces)]


def build_vocabulary() -> list[str]:
    """Return the tokens in the order of their ids.

    Special tokens come first, then single characters and their continuations, so that any text
    can be spelt out; then whole words of the chest grammar and of the prompts, and numbers. The
    words of the head twins come last: the ids of all others are as they were without them.
    """
    tokens = spelling()
    tokens += sorted({word for text in _texts() for word in _words(text)} | set(_COMMON.split()))
    tokens += [str(number) for number in range(_MAX_NUMBER + 1)]
    head = (*all_wordings(), *MR_RATE_TERMS.values(), _MR_FRAMES)
    tokens += sorted({word for text in head for word in _words(text)})
    return list(dict.fromkeys(tokens))


def _texts() -> Iterator[str]:
    grammar = wordings()
    yield _PROMPT_FRAMES
    yield grammar["normal"]
    yield from grammar["techniques"]
    yield from grammar["indications"]
    yield from LABELS
    for _, _, sentence in all_sentences():
        yield sentence


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z]+", re.sub(r"\{\w+\}", " ", text).lower())
