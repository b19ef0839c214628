"""Sentences of reports as numbers: when do two reports say the same?"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache

# After . ! ? and before a capital, a digit, a bracket or a quote; "7.5 mm" has no space and stays.
# CT-RATE impressions also use double quotes and line breaks as separators.
_BOUNDARY = re.compile(r'(?<=[.!?])\s+(?=[A-Z0-9("\'])|\s*[\n"]+\s*')
_EDGES = " \t.,;:!?'\"()"


def split_sentences(text: str) -> list[str]:
    """Cut a report section into sentences.

    >>> split_sentences("A 7.5 mm nodule. No effusion. ")
    ['A 7.5 mm nodule.', 'No effusion.']
    """
    return list(_split(text))


@lru_cache(maxsize=4096)  # the sentences of normality that most reports share
def statement_id(sentence: str) -> int:
    """Give a sentence a number of 63 bits; case, spacing and outer punctuation do not matter.

    >>> statement_id("No effusion.") == statement_id(" no  effusion")
    True
    """
    normalised = " ".join(sentence.lower().split()).strip(_EDGES)
    digest = hashlib.blake2b(normalised.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def statements_of(texts: Mapping[str, str] | Iterable[str]) -> tuple[int, ...]:
    """List the distinct statements of all sections of a report, sorted."""
    sections = texts.values() if isinstance(texts, Mapping) else texts
    return tuple(sorted({statement_id(s) for text in sections for s in split_sentences(text)}))


@lru_cache(maxsize=64)  # for the sampler and the statements of one sample; workers must not grow
def _split(text: str) -> tuple[str, ...]:
    parts = (part.strip() for part in _BOUNDARY.split(text))
    return tuple(part for part in parts if part.strip(_EDGES))
