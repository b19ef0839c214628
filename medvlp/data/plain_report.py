"""Sections of a report as they stand, as one text."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from medvlp.data.random_sentences import RandomSentences
from medvlp.data.statements import statements_of
from medvlp.data.text_sampler import TextSampler, TextUnit
from medvlp.types import TextKind


class PlainReport(TextSampler):
    """The report as HSENet reads it: its findings, without quotes and parentheses.

    Args:
        sections: Joined in this order. Where a report has none of them, all it has are taken.
        removed: Characters taken out.
        cut: Published rule for long reports; None leaves their end to the tokenizer, which counts
            what it cuts.

    Reference: the published repository, github.com/YanzhaoShi/HSENet.
    """

    def __init__(
        self,
        sections: Sequence[str] = ("findings",),
        *,
        removed: str = "\"'()",
        cut: RandomSentences | None = None,
    ) -> None:
        self.sections, self.removed, self.cut = tuple(sections), removed, cut

    def __call__(
        self, sections: Mapping[str, str], generator: np.random.Generator
    ) -> list[TextUnit]:
        """Join the sections; there is no chance in it, unless long reports are cut."""
        text, statements = self.text(sections), statements_of(self.wanted(sections))
        if self.cut is not None and (shorter := self.cut(text, generator)) != text:
            text, left = shorter, statements_of([shorter])
            statements = tuple(number for number in statements if number in left)
        return [TextUnit(text, TextKind.REPORT, statements)]

    def has_texts(self, study: Mapping[str, Any]) -> bool:
        """Tell whether anything is left of a report."""
        return bool(self.text(study["texts"]).strip())

    def lacks(self, sections: Mapping[str, str]) -> tuple[str, ...]:
        """Name the sections that are not there."""
        return tuple(name for name in self.sections if name not in sections)

    def wanted(self, sections: Mapping[str, str]) -> dict[str, str]:
        """Choose the sections that are read."""
        found = {name: sections[name] for name in self.sections if name in sections}
        return found or dict(sections)

    def text(self, sections: Mapping[str, str]) -> str:
        """Join the sections.

        >>> PlainReport().text({"findings": 'Heart "normal" (size).', "impression": "Normal."})
        'Heart normal size.'
        """
        joined = " ".join(self.wanted(sections).values())
        return joined.translate(str.maketrans("", "", self.removed))
