"""One text for each organ of a study: what fVLM's text tower reads in training."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from medvlp.data.decomposed_report import DecomposedReport, Decomposer, from_sections
from medvlp.data.organ_captions import organ_caption
from medvlp.data.report_decomposer import RuleBasedDecomposer
from medvlp.data.statements import statements_of
from medvlp.data.text_sampler import TextSampler, TextUnit
from medvlp.types import TextKind


class OrganCaptionSampler(TextSampler):
    """The caption of every organ, in the order of the organs; there is no chance in it.

    Sections "findings/<organ>" and "impression/<organ>" are what was said of an organ, see
    `medvlp.data.organ_reports`. A report without any such section is split here, each time it is
    read. An organ of which nothing is said is normal.

    Args:
        organs: Names; a text's `organ` is its place in this list.
        decomposer: Splits reports; by default `RuleBasedDecomposer` does, which has to know the
            organs once a report is not split. Any function from sections to a `DecomposedReport`
            will do.
        compat: "published" joins captions as the public code does, see `organ_caption`; a report
            that is not split is then one of normal organs, unless a decomposer is given.

    Raises:
        ValueError: If organs are missing or named twice.
    """

    def __init__(
        self,
        organs: Sequence[str],
        *,
        decomposer: Decomposer | None = None,
        compat: Literal["published"] | None = None,
    ) -> None:
        self.organs = tuple(organs)
        if not self.organs or len(set(self.organs)) < len(self.organs):
            raise ValueError(f"organs are {list(self.organs)}, expected one or more, each once")
        self.compat: Literal["published"] | None = compat
        self.decomposer = decomposer

    def __call__(
        self, sections: Mapping[str, str], generator: np.random.Generator
    ) -> list[TextUnit]:
        """Make one text of each organ."""
        report = self.decomposed(sections)
        return [self._unit(number, organ, report) for number, organ in enumerate(self.organs)]

    def remarks(self, sections: Mapping[str, str]) -> tuple[str, ...]:
        """Tell of reports that are not split, name none of the organs or contradict themselves."""
        if not self._splits and from_sections(sections) is None:
            return ("have a report that is not split by organ: all their organs count as normal",)
        report = self.decomposed(sections)
        if not any(report.descriptions.get(o) or report.conclusions.get(o) for o in self.organs):
            return (f"say nothing of any of the organs {', '.join(self.organs)}: all are normal",)
        return tuple(
            f"contradict themselves about the {organ}: it counts as abnormal"
            for organ in report.contradictions
        )

    def decomposed(self, sections: Mapping[str, str]) -> DecomposedReport:
        """Return what the sections say of organs, or split the report if they do not.

        Raises:
            ValueError: If the rules have to split it, and do not know an organ.
        """
        report = from_sections(sections)
        if report is not None:
            return report
        if not self._splits:
            return DecomposedReport({}, {})
        if self.decomposer is None:
            self.decomposer = RuleBasedDecomposer(self.organs)
        return self.decomposer(sections)

    @property
    def _splits(self) -> bool:
        return self.decomposer is not None or self.compat is None

    def _unit(self, number: int, organ: str, report: DecomposedReport) -> TextUnit:
        caption = organ_caption(
            organ, report.descriptions.get(organ), report.conclusions.get(organ), compat=self.compat
        )
        return TextUnit(
            caption.encoder_text,
            TextKind.SENTENCE,
            statements_of([caption.encoder_text]),
            organ=number,
            normal=not caption.abnormal,
            caption=caption_id(caption.text),
        )


def caption_id(caption: str) -> int:
    """Give a whole caption a number of 63 bits, equal only where captions are, letter by letter.

    >>> caption_id("Clear.") == caption_id("clear.")
    False
    """
    digest = hashlib.blake2b(caption.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
