"""The words by which reports are split by anatomy: read from a table, matched in texts."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from medvlp.data.tables import nearest

_LISTS = (
    "ignored",
    "places",
    "findings",
    "generic",
    "normal",
    "before",
    "after",
    "no_denial",
    "but",
)
_LISTS += ("partial", "introductions", "continues")
_KEYS = ("anatomies", "groups", "implied", *_LISTS)
_WORD, _TERM = re.compile(r"[^\W_]+(?:'[a-z]+)?"), re.compile(r"[^\W_]+(?:'[a-z]+)?[*#]?")
_STEM = 3  # letters by which terms that end in * are looked up
_KNOWN = 20_000  # words whose terms are remembered
_Candidates = tuple[tuple[list[str], str], ...]
_DIGITS = 2  # of a number in a term: T12
_OWN = Path(__file__).with_name("report_terms.yaml")


class Match(NamedTuple):
    """A term in a text.

    Attributes:
        start: Of its first word, counted in words.
        end: Behind its last word.
        term: As the table has it.
        meaning: What the table says it stands for.
    """

    start: int
    end: int
    term: str
    meaning: tuple[str, ...]


class TermMatcher:
    """Finds terms in a list of small-letter words; at one place the longest counts.

    Args:
        terms: Term to what it stands for.
    """

    def __init__(self, terms: Mapping[str, tuple[str, ...]]) -> None:
        self._terms = dict(terms)
        self._known: dict[str, _Candidates] = {}
        self._by_start: dict[str, list[tuple[list[str], str]]] = {}
        for term in terms:
            words = words_of(term, _TERM)
            start = words[0] if words[0].isalnum() else words[0][:-1][:_STEM] + "*"
            self._by_start.setdefault(start, []).append((words, term))

    def find(self, words: Sequence[str]) -> list[Match]:
        """Return every match from left to right; none begins inside another."""
        found: list[Match] = []
        place = 0
        while place < len(words):
            match = self._at(words, place)
            if match is not None:
                found.append(match)
            place = place + 1 if match is None else match.end
        return found

    def begins(self, words: Sequence[str]) -> bool:
        """Tell whether a text begins with one of the terms."""
        return bool(words) and self._at(words, 0) is not None

    def _at(self, words: Sequence[str], place: int) -> Match | None:
        for term_words, term in self._candidates(words[place]):
            end = place + len(term_words)
            if end <= len(words) and all(map(_is, words[place:end], term_words)):
                return Match(place, end, term, self._terms[term])
        return None

    def _candidates(self, word: str) -> _Candidates:
        """List the terms that a word may begin, the longest first."""
        found = self._known.get(word)
        if found is None:
            starts = (word, *(f"{word[:length]}*" for length in range(1, _STEM + 1)))
            terms = [term for start in starts for term in self._by_start.get(start, ())]
            found = tuple(sorted(terms, key=lambda term: -len(term[0])))
            if len(self._known) < _KNOWN:
                self._known[word] = found
        return found


class ReportTerms:
    """The table of terms, see `report_terms.yaml`.

    Args:
        path: Of a table of the user's; by default the one that comes with medvlp.

    Raises:
        FileNotFoundError: If there is no such table.
        ValueError: If it is of another layout.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        self.path = Path(path) if path else _OWN
        table = _read(self.path)
        own: Mapping[str, Sequence[str]] = table["anatomies"]
        self.anatomies = tuple(own)
        meanings: dict[str, tuple[str, ...]] = dict.fromkeys(table["ignored"], ())
        for name, terms in own.items():
            _add(meanings, terms, (name,))
        for group in table["groups"]:
            _add(meanings, group["terms"], tuple(group["anatomies"]))
        implied: dict[str, tuple[str, ...]] = {}
        for name, terms in table["implied"].items():
            _add(implied, terms, (name,))
        for name in {name for names in (meanings | implied).values() for name in names} - {*own}:
            raise ValueError(f"{self.path}: {name!r} is no anatomy{nearest(name, own)}")
        self.named, self.implied = TermMatcher(meanings), TermMatcher(implied)
        lists = {name: TermMatcher(dict.fromkeys(table[name], ())) for name in _LISTS}
        self.places = lists["places"]
        self.findings, self.normal = lists["findings"], lists["normal"]
        self.before, self.after, self.but = lists["before"], lists["after"], lists["but"]
        self.no_denial, self.partial = lists["no_denial"], lists["partial"]
        self.introductions, self.continues = lists["introductions"], lists["continues"]
        self.generic = frozenset(table["generic"])

    def names_of(self, organs: Iterable[str]) -> dict[str, str]:
        """Find the anatomy of the table for each of these organs.

        Raises:
            ValueError: If one is not in the table.
        """
        known = {_plain(name): name for name in self.anatomies}
        found: dict[str, str] = {}
        for organ in organs:
            if _plain(organ) not in known:
                raise ValueError(
                    f"the organ {organ!r} is not among the anatomies of {self.path.name}"
                    f"{nearest(organ, self.anatomies)}; give a table that has it, or reports that "
                    "are split already"
                )
            found[organ] = known[_plain(organ)]
        return found


def _read(path: Path) -> dict[str, Any]:
    import yaml

    if not path.is_file():
        raise FileNotFoundError(f"no table of terms at {path}")
    try:
        table = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not readable YAML: {error}") from error
    if not isinstance(table, dict) or set(table) != set(_KEYS):
        came = ", ".join(map(str, table)) if isinstance(table, dict) else type(table).__name__
        raise ValueError(f"{path} has {came}; expected the keys {', '.join(_KEYS)}")
    return table


def _add(
    meanings: dict[str, tuple[str, ...]], terms: Sequence[str], names: tuple[str, ...]
) -> None:
    for term in terms:
        meanings[term] = tuple(dict.fromkeys((*meanings.get(term, ()), *names)))


def words_of(text: str, pattern: re.Pattern[str] = _WORD) -> list[str]:
    """Cut a text into words in small letters; hyphens separate, as spaces do.

    >>> words_of("Non-specific (5 mm)")
    ['non', 'specific', '5', 'mm']
    """
    return pattern.findall(text.lower())


def _is(word: str, term: str) -> bool:
    if term.endswith("*"):
        return word.startswith(term[:-1])
    if term.endswith("#"):
        number = word.removeprefix(term[:-1])
        return number != word and number.isdecimal() and len(number) <= _DIGITS
    return word == term


def _plain(name: str) -> str:
    return name.lower().replace("_", " ").replace("-", " ").strip()
