"""What impressions say of organs, as texts of organs or as one text of the whole study."""

from collections.abc import Mapping

import numpy as np

from medvlp.data.decomposed_report import DecomposedReport
from medvlp.data.organ_texts import OrganCaptionSampler
from medvlp.data.text_sampler import TextSampler, TextUnit
from medvlp.types import TextKind


class OrganConclusionSampler(OrganCaptionSampler):
    """Captions of organs without their descriptions: short texts, for small text towers.

    Arguments are those of `OrganCaptionSampler`.
    """

    def decomposed(self, sections: Mapping[str, str]) -> DecomposedReport:
        """Return what the impression says of organs."""
        return DecomposedReport({}, super().decomposed(sections).conclusions)


class JoinedTexts(TextSampler):
    """All texts of another sampler as one: the same words for a model of whole studies.

    Args:
        sampler: Its texts are joined by spaces, in their order.
    """

    def __init__(self, sampler: TextSampler) -> None:
        self.sampler = sampler

    def __call__(
        self, sections: Mapping[str, str], generator: np.random.Generator
    ) -> list[TextUnit]:
        """Make the text."""
        units = self.sampler(sections, generator)
        statements = sorted({number for unit in units for number in unit.statements})
        text = " ".join(unit.text for unit in units)
        return [TextUnit(text, TextKind.REPORT, tuple(statements))]

    def lacks(self, sections: Mapping[str, str]) -> tuple[str, ...]:
        """Name what the other sampler lacks."""
        return self.sampler.lacks(sections)

    def remarks(self, sections: Mapping[str, str]) -> tuple[str, ...]:
        """Say what the other sampler finds odd."""
        return self.sampler.remarks(sections)
