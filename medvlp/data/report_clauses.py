"""Clauses of a report: where they end, which anatomies they are about, what they say of them."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from medvlp.data.report_terms import Match, ReportTerms, words_of
from medvlp.data.statements import split_sentences

Status = Literal["normal", "abnormal", "neutral"]

_BREAKS = re.compile(r"\s*[;•·]\s*|:\s+|\s+-\s+(?=[A-Z])")
_JOINTS = re.compile(r",?\s+and\s+|,\s+|\s+(?=but\b|while\b|whereas\b|although\b|however\b)")
_VERB = re.compile(r"\b(is|are|was|were|has|have|had|shows?|appears?|measures?|measured)\b")
_FILLING = {"the", "a", "is", "are", "was", "were", "both", "and", "appear", "appears", "evaluated"}
_FILLING |= {"appearance", "as", "in", "have", "has", "observed"}


@dataclass(frozen=True)
class Clause:
    """A part of a sentence that says one thing.

    Attributes:
        text: As in the report.
        anatomies: That it names, or that are implied; empty where it names none.
        status: "neutral" if it says neither that something is normal nor that it is not.
        affirmed: Terms of findings that are there.
        denied: Terms of findings that are not.
        sweeping: Whether it calls the whole of its anatomies normal.
        continues: Whether it goes on about the anatomies of the clause before.
    """

    text: str
    anatomies: tuple[str, ...]
    status: Status
    affirmed: frozenset[str]
    denied: frozenset[str]
    sweeping: bool
    continues: bool


def split_clauses(report: str) -> list[str]:
    """Cut a text into sentences, and those where a part with a verb of its own begins.

    >>> split_clauses("Heart size is normal and the aorta is dilated. Trachea, bronchi are open.")
    ['Heart size is normal', 'the aorta is dilated.', 'Trachea, bronchi are open.']
    """
    parts = (part for sentence in split_sentences(report) for part in _BREAKS.split(sentence))
    return [clause for part in parts if part.strip(" .,-") for clause in _cut(part)]


def read_clause(text: str, terms: ReportTerms) -> Clause:
    """Say which anatomies a clause is about and what it says of them."""
    words = words_of(text)
    named = terms.named.find(words)
    anatomies = _meanings(named) or _meanings(terms.implied.find(words))
    said = list(words)
    for match in terms.no_denial.find(words):
        said[match.start : match.end] = [""] * (match.end - match.start)
    affirmed, denied, has_denial = _findings(said, terms)
    normal = terms.normal.find(said)
    status: Status = "neutral"
    if affirmed:
        status = "abnormal"
    elif normal or has_denial:
        status = "normal"
    sweeping = bool(normal and named) and not has_denial and not affirmed
    sweeping = sweeping and not _others(words, [*named, *normal])
    first = terms.continues.find(words)
    continues = bool(first) and first[0].start == 0
    return Clause(text, anatomies, status, affirmed, denied, sweeping, continues)


def _cut(sentence: str) -> list[str]:
    """Cut at commas and conjunctions where both sides have a verb."""
    clauses: list[str] = []
    begin = 0
    for joint in _JOINTS.finditer(sentence):
        ahead = sentence[joint.end() :]
        ahead = ahead[: next((m.start() for m in _JOINTS.finditer(ahead)), len(ahead))]
        if _VERB.search(sentence[begin : joint.start()]) and _VERB.search(ahead):
            clauses.append(sentence[begin : joint.start()])
            begin = joint.end()
    return [*clauses, sentence[begin:]]


def _findings(
    words: Sequence[str], terms: ReportTerms
) -> tuple[frozenset[str], frozenset[str], bool]:
    """Return findings that are affirmed, those that are denied, and whether any word denies."""
    stops, before, after = (
        [match.start for match in matcher.find(words)]
        for matcher in (terms.but, terms.before, terms.after)
    )
    affirmed: set[str] = set()
    denied: set[str] = set()
    for place, _, term, _ in terms.findings.find(words):
        lower = max((stop for stop in stops if stop < place), default=-1)
        upper = min((stop for stop in stops if stop > place), default=len(words))
        is_denied = any(lower < cue < place for cue in before)
        is_denied |= any(place < cue < upper for cue in after)
        (denied if is_denied else affirmed).add(term)
    return frozenset(affirmed), frozenset(denied - affirmed), bool(before or after)


def _others(words: Sequence[str], matches: Iterable[Match]) -> bool:
    """Tell whether a clause has words besides these that narrow down what it says."""
    told = {place for match in matches for place in range(match.start, match.end)}
    rest = (word for place, word in enumerate(words) if place not in told)
    return any(word not in _FILLING for word in rest)


def _meanings(found: Iterable[Match]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for match in found for name in match.meaning))
