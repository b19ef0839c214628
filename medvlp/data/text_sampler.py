"""What every rule from reports, lesions and questions to texts has in common."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from numpy.random import Generator

from medvlp.data.statements import statements_of
from medvlp.types import TextKind

Sections = Mapping[str, str]
"""Parts of a report by name, such as "findings" and "impression"."""

Target = Mapping[str, Any] | None
"""The lesion or question that a sample is about, a row of the manifest."""


@dataclass(frozen=True)
class TextUnit:
    """One text of a study.

    Attributes:
        text: As it goes to the tokenizer.
        kind: What it is.
        statements: Ids of the sentences in it, see `statement_id`.
        organ: Number of the organ it is about; -1 for a text about the whole study.
        normal: Whether it says that the organ is normal.
        caption: 63-bit hash of the whole caption of the organ; -1 without an organ.
        question: Which the text answers, for a language model; None outside of conversations.
        negatives: Texts that are wrong where this one is right, for losses that look for them.
    """

    text: str
    kind: TextKind
    statements: tuple[int, ...]
    organ: int = -1
    normal: bool = False
    caption: int = -1
    question: str | None = None
    negatives: tuple[str, ...] = ()


class TextSampler(ABC):
    """Chooses texts from the sections of a report."""

    @abstractmethod
    def __call__(self, sections: Sections, generator: Generator) -> list[TextUnit]:
        """Make the texts of one study.

        Args:
            sections: Not empty; names such as "findings" and "impression".
            generator: The only source of chance.
        """

    def evaluation(self, sections: Sections, generator: Generator) -> list[TextUnit]:
        """Make the texts of an evaluation; the generator is the same for a study every time."""
        return self(sections, generator)

    def about(
        self, sections: Sections, target: Target, generator: Generator, *, training: bool
    ) -> list[TextUnit]:
        """Make the texts of a sample; here of its study, whatever the sample is about.

        Args:
            sections: May be empty.
            target: See there.
            generator: The only source of chance.
            training: Or an evaluation.
        """
        if not sections:
            return []
        return (self if training else self.evaluation)(sections, generator)

    def has_texts(self, study: Mapping[str, Any]) -> bool:
        """Tell whether anything can be said of a study, a row of the manifest."""
        return bool(study["texts"])

    def statements(self, sections: Sections) -> tuple[int, ...]:
        """List what is true of a study: all statements of its report."""
        return statements_of(sections)

    def lacks(self, sections: Sections) -> tuple[str, ...]:
        """Name the sections that are wanted and not there; the DataModule counts them."""
        return ()

    def remarks(self, sections: Sections) -> tuple[str, ...]:
        """Say what is odd about a report; the DataModule counts equal remarks."""
        return ()
