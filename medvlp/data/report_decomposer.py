"""Splits reports by organ without a language model: a table of terms, aware of negation."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Literal

from medvlp.data.decomposed_report import DecomposedReport
from medvlp.data.report_clauses import Clause, read_clause, split_clauses, split_items
from medvlp.data.report_terms import ReportTerms
from medvlp.data.statements import split_sentences
from medvlp.data.texts import with_full_stop

_CONCLUSION = "impression"
_BODY = ("findings", "report")
_FEW = 2  # anatomies; a clause about more does not say which of them has the finding
_CACHED = 65_536  # clauses; most of those of normality are in every other report


class RuleBasedDecomposer:
    """Gives every clause of a report to the organs that it names, and says which are abnormal.

    An organ is abnormal if a clause affirms a finding of it. Its conclusion is then what the
    impression says, or else the abnormal clauses of the findings; a normal organ has none. An
    organ that is called normal in one place and abnormal in another is abnormal, and named among
    the contradictions.

    Args:
        organs: Wanted, in the words of the table or with "_" for " "; by default all it has.
        terms: YAML file of terms, see `report_terms.yaml`; by default that file.
        abnormal: "report" takes an organ for abnormal if findings or impression say so;
            "impression" only if the impression does (fVLM: one that it does not name is normal).

    Raises:
        ValueError: If the table does not know an organ.
    """

    def __init__(
        self,
        organs: Sequence[str] | None = None,
        *,
        terms: str | None = None,
        abnormal: Literal["report", "impression"] = "report",
    ) -> None:
        if abnormal not in ("report", "impression"):
            raise ValueError(f"abnormal is {abnormal!r}; choose 'report' or 'impression'")
        self.terms = ReportTerms(terms)
        self.abnormal = abnormal
        self._names = self.terms.names_of(self.terms.anatomies if organs is None else organs)
        self._read = lru_cache(maxsize=_CACHED)(self._read_clause)

    @property
    def organs(self) -> tuple[str, ...]:
        """The organs that it looks for."""
        return tuple(self._names)

    def __call__(self, sections: Mapping[str, str]) -> DecomposedReport:
        """Split a report.

        Args:
            sections: "findings", or "report", and "impression"; where it has none of those, all.
        """
        named = next((name for name in _BODY if name in sections), None)
        body = [sections[named]] if named else []
        if not named and _CONCLUSION not in sections:
            body = list(sections.values())
        found, first, read = self._assign(body)
        concluded, second, read_last = self._assign([sections.get(_CONCLUSION, "")])
        descriptions: dict[str, str] = {}
        conclusions: dict[str, str] = {}
        contradictions: list[str] = []
        for organ in self._names:
            description, conclusion = self._parts(found[organ], concluded[organ])
            if description:
                descriptions[organ] = _text(description)
            if conclusion:
                conclusions[organ] = _text(conclusion)
            if contradicts([*found[organ], *concluded[organ]], self.terms.generic):
                contradictions.append(organ)
        return DecomposedReport(
            descriptions,
            conclusions,
            unassigned=(*first, *second),
            contradictions=tuple(contradictions),
            num_clauses=read + read_last,
        )

    def __getstate__(self) -> dict[str, object]:
        """Leave out the cache: workers that are spawned start with an empty one."""
        return {name: value for name, value in self.__dict__.items() if name != "_read"}

    def __setstate__(self, state: dict[str, object]) -> None:
        """Start with an empty cache."""
        self.__dict__.update(state)
        self._read = lru_cache(maxsize=_CACHED)(self._read_clause)

    def _read_clause(self, text: str) -> Clause:
        return read_clause(text, self.terms)

    def _clauses(self, text: str) -> Iterator[tuple[Clause, bool]]:
        """Yield the clauses of a text, and whether each is the first of its sentence."""
        for sentence in split_sentences(text):
            first = True
            for part in split_clauses(sentence):
                for item in split_items(part, self.terms):
                    yield self._read(item), first
                    first = False

    def _assign(self, texts: Iterable[str]) -> tuple[dict[str, list[Clause]], list[str], int]:
        """Return clauses by organ, those that are about no anatomy, and the number of all."""
        found: dict[str, list[Clause]] = {organ: [] for organ in self._names}
        rest: list[str] = []
        num_clauses = 0
        for text in texts:
            before: tuple[str, ...] = ()
            for clause, is_first in self._clauses(text):
                inherits = clause.continues or not is_first
                anatomies = clause.anatomies or (before if inherits else ())
                before = anatomies
                if clause.introduces:
                    continue
                num_clauses += 1
                if not anatomies:
                    rest.append(clause.text)
                for organ, name in self._names.items():
                    if name in anatomies:
                        found[organ].append(clause)
        return found, rest, num_clauses

    def _parts(
        self, found: list[Clause], concluded: list[Clause]
    ) -> tuple[list[Clause], list[Clause]]:
        """Return what goes into the description and, of an abnormal organ, the conclusion."""
        if any(clause.status == "abnormal" for clause in concluded):
            return found, concluded
        if self.abnormal == "report":
            told = [clause for clause in found if clause.status == "abnormal"]
            if told:
                return [c for c in (*found, *concluded) if c.status != "abnormal"], told
        return [*found, *concluded], []


def contradicts(clauses: Iterable[Clause], generic: frozenset[str] = frozenset()) -> bool:
    """Tell whether clauses about one organ cannot all be true.

    One calls the whole of it normal and another finds something, or one denies what another
    affirms; words that are too general for that (`generic`) do not count.
    """
    told = [clause for clause in clauses if len(clause.anatomies) <= _FEW]
    affirmed = frozenset[str]().union(*(clause.affirmed for clause in told)) - generic
    denied = frozenset[str]().union(*(clause.denied for clause in told)) - generic
    abnormal = any(clause.status == "abnormal" for clause in told)
    return bool(affirmed & denied) or (abnormal and any(clause.sweeping for clause in told))


def _text(clauses: Iterable[Clause]) -> str:
    """Write clauses as sentences, each once."""
    texts = dict.fromkeys(clause.text.strip() for clause in clauses)
    return " ".join(with_full_stop(text[:1].upper() + text[1:]) for text in texts)
