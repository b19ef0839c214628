"""The grammar of phantom reports (`wordings.json`): Findings and Impression of a study.

Every sentence speaks of one finding, ends with the only full stop it has, and holds one of
`NEGATION_WORDS` exactly when the finding is absent.
"""

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any

import numpy as np

from medvlp.phantom.finding import LABELS, Finding
from medvlp.phantom.study import PhantomStudy
from medvlp.phantom.thorax import LOBES

Slots = Mapping[str, str | int]

NEGATION_WORDS = ("no", "not", "without")

_PROMPT_SHARE, _SHARED_SHARE = 0.25, 0.35
_IMPRESSION_NEGATIVE_SHARE, _IMPRESSION_DETAIL_SHARE = 0.7, 0.2


@dataclass(frozen=True)
class Report:
    """The texts of one study.

    Attributes:
        findings: One sentence per finding that was looked for, grouped by anatomy.
        impression: What is present, and some of what is absent, in the words of the prompts.
        technique: How the scan was made.
        indication: Why it was made.
        sentences: The sentence of Findings for each label.
        conclusions: What Impression says of each label that is present.
    """

    findings: str
    impression: str
    technique: str
    indication: str
    sentences: Mapping[str, str]
    conclusions: Mapping[str, str]


@lru_cache(maxsize=1)
def wordings() -> dict[str, Any]:
    """Read the grammar."""
    text = resources.files("medvlp.phantom").joinpath("wordings.json").read_text(encoding="utf-8")
    return json.loads(text)


def write_report(study: PhantomStudy, rng: np.random.Generator, *, thickness_mm: float) -> Report:
    """Put a study into words.

    Args:
        study: What was found.
        rng: Chooses among the wordings.
        thickness_mm: Of the slices, for the technique.
    """
    grammar = wordings()
    slots = {finding.name: _slots(finding, study) for finding in study.findings}
    sentences = {
        name: _sentence(name, slots.get(name), rng)
        for region in grammar["regions"]
        for name in rng.permutation(region).tolist()
        if name in study.kinds
    }
    present, absent = _impression(slots, study.kinds, rng)
    said = list(present.values()) or [grammar["normal"]]
    return Report(
        findings=" ".join(sentences.values()),
        impression=" ".join([*said, *absent]),
        technique=_pick(grammar["techniques"], rng).format(thickness=f"{thickness_mm:g}"),
        indication=_pick(grammar["indications"], rng),
        sentences=sentences,
        conclusions=present,
    )


def prompt(name: str, present: bool) -> str:
    """Return the sentence of the HLIP `volume` protocol for a label.

    >>> prompt("Emphysema", True), prompt("Atelectasis", False)
    ('Emphysema.', 'Not atelectatic.')
    """
    return wordings()["findings"][name]["prompt"][int(present)]


def all_sentences() -> Iterator[tuple[str, bool, str]]:
    """Yield every sentence of the grammar as (label, present, sentence), numbers left as 0."""
    grammar = wordings()
    sides = ("on the left", "on the right", "on both sides", "left", "right")
    for name in LABELS:
        entry = grammar["findings"][name]
        for present, kind in ((False, "negative"), (True, "positive")):
            yield name, present, prompt(name, present)
            for template in (*entry[kind], *grammar["shared"][kind]):
                for side in sides:
                    for place, degree in zip(_PLACES, _DEGREES * len(_PLACES), strict=False):
                        slots: Slots = {"side": side, "place": place, "degree": degree, "size": 0}
                        yield name, present, _fill(template, name, slots)


_PLACES = (
    *LOBES,
    "upper lobes",
    "both lungs",
    "thoracic aorta",
    "coronary arteries",
    "port catheter",
    "pacemaker",
    "sternal wire",
    "right paratracheal",
    "left paratracheal",
    "prevascular",
    "aortopulmonary",
    "subcarinal",
    "right hilar",
    "left hilar",
)
_DEGREES = ("mild", "moderate", "severe", "small", "large")


def _pick(options: list[str], rng: np.random.Generator) -> str:
    return options[int(rng.integers(len(options)))]


def _fill(template: str, name: str, slots: Slots) -> str:
    text = template.format(C=name, c=name.lower(), **slots)
    return text[0].upper() + text[1:]


def _slots(finding: Finding, study: PhantomStudy) -> Slots:
    side = finding.side
    if finding.name == "Pleural effusion":
        side = "on both sides" if side == "bilateral" else f"on the {side}"
    size = max(1, round(study.size_mm(finding)))
    return {"side": side, "place": finding.place, "degree": finding.degree, "size": size}


def _sentence(name: str, slots: Slots | None, rng: np.random.Generator) -> str:
    """Say that a finding is there, or, without slots, that it is not."""
    grammar = wordings()
    kind = "negative" if slots is None else "positive"
    chance = rng.random()
    if chance < _PROMPT_SHARE:
        return prompt(name, slots is not None)
    shared = chance < _PROMPT_SHARE + _SHARED_SHARE
    options = grammar["shared"][kind] if shared else grammar["findings"][name][kind]
    return _fill(_pick(options, rng), name, slots or {})


def _impression(
    by_name: Mapping[str, Slots], kinds: Collection[str], rng: np.random.Generator
) -> tuple[dict[str, str], list[str]]:
    """Say what is present, each finding in its prompt's words, and part of what is absent."""
    present: dict[str, str] = {}
    absent: list[str] = []
    for name in rng.permutation(np.asarray(LABELS)).tolist():
        if name in by_name:
            present[name] = prompt(name, True)
            if rng.random() < _IMPRESSION_DETAIL_SHARE:
                options = wordings()["findings"][name]["positive"]
                present[name] += f" {_fill(_pick(options, rng), name, by_name[name])}"
        elif name in kinds and rng.random() < _IMPRESSION_NEGATIVE_SHARE:
            absent.append(prompt(name, False))
    return present, absent
