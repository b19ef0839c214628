"""Labels from the words of a report: a table of terms, aware of negation."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

from medvlp.data.report_clauses import blanked, clause_words, split_clauses, split_findings
from medvlp.data.report_terms import ReportTerms, TermMatcher
from medvlp.data.statements import split_sentences
from medvlp.data.tables import nearest

_OWN = Path(__file__).with_name("report_labels.yaml")
_KEYS = ("finding", "about", "unless")
_CACHED = 65_536  # clauses; generated reports repeat them


class _Rule(NamedTuple):
    finding: TermMatcher
    about: TermMatcher | None
    unless: TermMatcher | None


class ReportLabels:
    """Says which findings a report affirms; one that it does not mention is taken for absent.

    Args:
        names: Of the labels, in the order wanted.
        terms: YAML file of rules, see `report_labels.yaml`; by default that file, which knows the
            18 labels of CT-RATE.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is of another layout, or does not know a label.
    """

    def __init__(self, names: Sequence[str], *, terms: str | None = None) -> None:
        path = Path(terms) if terms else _OWN
        table = _read_table(path)
        if unknown := [name for name in names if name not in table["labels"]]:
            raise ValueError(
                f"{path} has no rules for the label {unknown[0]!r}"
                f"{nearest(unknown[0], table['labels'])}; give a table that has them"
            )
        self.names = list(names)
        self._rules = {name: _rules(path, name, table["labels"][name]) for name in names}
        self._ignored = _matcher(table["ignored"])
        self._terms = ReportTerms()
        self._read = lru_cache(maxsize=_CACHED)(self._read_clause)

    def __call__(self, report: str) -> Int[np.ndarray, " k"]:
        """Return 1 for each label that a clause of the report affirms, 0 for the others.

        >>> labels = ReportLabels(["Pleural effusion", "Lung nodule", "Atelectasis"])
        >>> labels("No pleural effusion. A nodule of 5 mm is seen in the left lung.").tolist()
        [0, 1, 0]
        """
        found: set[str] = set()
        for sentence in split_sentences(report):
            for clause in split_clauses(sentence):
                found |= self._read(clause)
        return np.array([name in found for name in self.names], dtype=np.int64)

    def __getstate__(self) -> dict[str, object]:
        """Leave out the cache: copies start with an empty one."""
        return {name: value for name, value in self.__dict__.items() if name != "_read"}

    def __setstate__(self, state: dict[str, object]) -> None:
        """Start with an empty cache."""
        self.__dict__.update(state)
        self._read = lru_cache(maxsize=_CACHED)(self._read_clause)

    def _read_clause(self, text: str) -> frozenset[str]:
        words = blanked(clause_words(text), self._ignored)
        said = blanked(words, self._terms.no_denial)
        return frozenset(
            name
            for name, rules in self._rules.items()
            if any(self._affirms(rule, words, said) for rule in rules)
        )

    def _affirms(self, rule: _Rule, words: Sequence[str], said: Sequence[str]) -> bool:
        affirmed, _, _ = split_findings(said, rule.finding, self._terms)
        if not affirmed or (rule.about and not rule.about.find(words)):
            return False
        return not (rule.unless and rule.unless.find(words))


def _read_table(path: Path) -> dict[str, Any]:
    import yaml

    if not path.is_file():
        raise FileNotFoundError(f"no table of label terms at {path}")
    try:
        table = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not readable YAML: {error}") from error
    if not isinstance(table, dict) or set(table) != {"labels", "ignored"}:
        raise ValueError(f"{path} has another layout; expected the keys labels and ignored")
    return table


def _rules(path: Path, name: str, entries: Sequence[Mapping[str, Any]]) -> list[_Rule]:
    for entry in entries:
        if "finding" not in entry or set(entry) - set(_KEYS):
            raise ValueError(
                f"{path}: a rule of {name!r} has {', '.join(entry)}; expected finding and, if "
                "wanted, about and unless"
            )
    optional = [
        [_matcher(entry[key]) if key in entry else None for key in _KEYS[1:]] for entry in entries
    ]
    return [
        _Rule(_matcher(entry["finding"]), about, unless)
        for entry, (about, unless) in zip(entries, optional, strict=True)
    ]


def _matcher(terms: Sequence[str]) -> TermMatcher:
    return TermMatcher(dict.fromkeys(terms, ()))
