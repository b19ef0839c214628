"""Clauses of a report: where they end, which anatomies they are about, what they say of them."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from medvlp.data.report_terms import Match, ReportTerms, TermMatcher, words_of

Status = Literal["normal", "abnormal", "neutral"]

_BREAKS = re.compile(r"\s*[;•·]\s*|:\s+|\s+-\s+(?=[A-Z])")
_ASIDE = re.compile(r"\([^()]*\)")
_JOINTS = re.compile(r",?\s+and\s+|,\s+|\s+(?=but\b|while\b|whereas\b|although\b|however\b)")
_NO_SUBJECT = re.compile(  # the words ahead need those before: no cut
    r"(which|that|who|whose|where|is|are|was|were|has|have|had|shows?|measur\w+|no difference)\b"
)
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
        denied: Terms of findings that are nowhere.
        sweeping: Whether it calls the whole of its anatomies normal.
        continues: Whether it goes on about the anatomies of the sentence before.
        introduces: Whether it only leads to the next clause.
    """

    text: str
    anatomies: tuple[str, ...]
    status: Status
    affirmed: frozenset[str]
    denied: frozenset[str]
    sweeping: bool
    continues: bool
    introduces: bool


def split_clauses(sentence: str) -> list[str]:
    """Cut a sentence where a part with a verb of its own begins.

    >>> split_clauses("Heart size is normal and the aorta, which is elongated, is dilated.")
    ['Heart size is normal', 'the aorta, which is elongated, is dilated.']
    """
    parts = (part for part in _BREAKS.split(sentence) if part.strip(" .,-"))
    return [clause for part in parts for clause in _cut(part)]


def split_items(clause: str, terms: ReportTerms) -> list[str]:
    """Cut a list of findings, as impressions have them, at commas between anatomies.

    >>> split_items("Cyst in the liver, pleural effusion, pneumothorax", ReportTerms())
    ['Cyst in the liver', 'pleural effusion, pneumothorax']
    """
    parts = re.split(r",\s+", clause)
    words = words_of(clause)
    if len(parts) == 1 or _VERB.search(clause) or terms.before.find(words):
        return [clause]
    items: list[str] = []
    last: set[str] = set()
    for part in parts:
        heard = words_of(part)
        anatomies = {*_meanings(terms.named.find(heard) or terms.implied.find(heard))}
        joined = not anatomies or not last or anatomies & last or _NO_SUBJECT.match(part)
        if items and joined:
            items[-1] += f", {part}"
            last |= anatomies
        else:
            items.append(part)
            last = anatomies
    return items


def read_clause(text: str, terms: ReportTerms) -> Clause:
    """Say which anatomies a clause is about and what it says of them.

    What stands in parentheses (sizes, causes) is not looked at.
    """
    words = clause_words(text)
    named = terms.named.find(words)
    said = blanked(words, terms.no_denial)
    affirmed, denied, has_denial = split_findings(said, terms.findings, terms)
    normal = terms.normal.find(said)
    status: Status = "neutral"
    if affirmed:
        status = "abnormal"
    elif normal or has_denial:
        status = "normal"
    places = {match.end for match in terms.places.find(words)}
    subjects = [match for match in named if not places & {*range(match.start - 1, match.start + 1)}]
    anatomies = _anatomies(subjects, status) or _meanings(terms.implied.find(words))
    anatomies = anatomies or _anatomies(named, status)
    if terms.partial.find(words):
        denied = frozenset()
    sweeping = status == "normal" and bool(normal) and _is_sweeping(words, named, normal)
    return Clause(
        text,
        anatomies,
        status,
        affirmed,
        denied,
        sweeping,
        continues=terms.continues.begins(words),
        introduces=status == "neutral" and terms.introductions.begins(words),
    )


def clause_words(text: str) -> list[str]:
    """Return the words of a clause without what stands in parentheses, if that leaves any."""
    return words_of(_ASIDE.sub(" ", text)) or words_of(text)


def blanked(words: Sequence[str], terms: TermMatcher) -> list[str]:
    """Empty the words of all matches; the others keep their places."""
    said = list(words)
    for match in terms.find(words):
        said[match.start : match.end] = [""] * (match.end - match.start)
    return said


def _cut(sentence: str) -> list[str]:
    """Cut at commas and conjunctions where both sides have a verb."""
    joints = [j for j in _JOINTS.finditer(sentence) if not _NO_SUBJECT.match(sentence, j.end())]
    ends = [*(joint.start() for joint in joints[1:]), len(sentence)]
    clauses: list[str] = []
    begin = 0
    for joint, end in zip(joints, ends, strict=False):
        before, after = sentence[begin : joint.start()], sentence[joint.end() : end]
        if _VERB.search(before) and _VERB.search(after):
            clauses.append(before)
            begin = joint.end()
    return [*clauses, sentence[begin:]]


def split_findings(
    words: Sequence[str], findings: TermMatcher, terms: ReportTerms
) -> tuple[frozenset[str], frozenset[str], bool]:
    """Return findings that are affirmed, those that are denied, and whether any word denies."""
    stops, before, after = (
        [match.start for match in matcher.find(words)]
        for matcher in (terms.but, terms.before, terms.after)
    )
    affirmed: set[str] = set()
    denied: set[str] = set()
    for place, _, term, _ in findings.find(words):
        if denied and place in after:
            continue  # "absent" is a finding of a kidney; of an effusion it is a denial
        lower = max((stop for stop in stops if stop < place), default=-1)
        upper = min((stop for stop in stops if stop > place), default=len(words))
        is_denied = any(lower < cue < place for cue in before)
        is_denied |= any(place < cue < upper for cue in after)
        (denied if is_denied else affirmed).add(term)
    return frozenset(affirmed), frozenset(denied - affirmed), bool(before or after)


def _is_sweeping(words: Sequence[str], named: Sequence[Match], normal: Sequence[Match]) -> bool:
    """Tell whether a clause names anatomies as a whole and has no word that narrows it down."""
    if not named or any(match.term[:4] != "".join(match.meaning)[:4] for match in named):
        return False
    told = {place for match in (*named, *normal) for place in range(match.start, match.end)}
    rest = (word for place, word in enumerate(words) if place not in told)
    return all(word in _FILLING for word in rest)


def _anatomies(named: Sequence[Match], status: Status) -> tuple[str, ...]:
    """Return the anatomies that a clause is about.

    One that names a part of a group is not about the group ("in the upper abdominal organs, a cyst
    in the liver"), and a finding of a named anatomy is not one of the group beside it.
    """
    single = {name for match in named if len(match.meaning) == 1 for name in match.meaning}
    return _meanings(
        match
        for match in named
        if len(match.meaning) == 1
        or not (single if status == "abnormal" else single.intersection(match.meaning))
    )


def _meanings(found: Iterable[Match]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for match in found for name in match.meaning))
