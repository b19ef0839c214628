"""A report split by organ, as data sets keep it and decomposers make it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

OrganTexts = Mapping[str, str]
"""Organ -> what a report says of it."""

Part = Literal["findings", "impression"]
_PARTS: tuple[Part, Part] = ("findings", "impression")


@dataclass(frozen=True)
class DecomposedReport:
    """What a report says of each organ.

    Attributes:
        descriptions: From the findings.
        conclusions: From the impression. An organ that has one is abnormal, unless it begins with
            `normal_sentence`.
        unassigned: Clauses that are about no organ.
        contradictions: Organs that are called normal in one place and abnormal in another.
        num_clauses: Of the report; 0 if the decomposer does not count.
    """

    descriptions: OrganTexts
    conclusions: OrganTexts
    unassigned: tuple[str, ...] = ()
    contradictions: tuple[str, ...] = ()
    num_clauses: int = 0


Decomposer = Callable[[Mapping[str, str]], DecomposedReport]
"""From the sections of a report ("findings", "impression") to the same by organ."""


def section_name(part: Part, organ: str) -> str:
    """Name the section that holds what one part of a report says of an organ.

    >>> section_name("findings", "lung")
    'findings/lung'
    """
    return f"{part}/{organ}"


def organ_sections(descriptions: OrganTexts, conclusions: OrganTexts) -> dict[str, str]:
    """Write a decomposed report as sections of a study."""
    return {
        section_name(part, organ): text
        for part, texts in zip(_PARTS, (descriptions, conclusions), strict=True)
        for organ, text in texts.items()
    }


def from_sections(sections: Mapping[str, str]) -> DecomposedReport | None:
    """Read the sections of organs back; None where there are none.

    >>> from_sections({"findings": "Clear.", "findings/lung": "Clear."}).descriptions
    {'lung': 'Clear.'}
    """
    descriptions, conclusions = (
        {
            name.removeprefix(f"{part}/"): text
            for name, text in sections.items()
            if name.startswith(f"{part}/")
        }
        for part in _PARTS
    )
    if not descriptions and not conclusions:
        return None
    return DecomposedReport(descriptions, conclusions)
