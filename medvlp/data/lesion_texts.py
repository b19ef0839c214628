"""The text of a lesion: the description of its place."""

from collections.abc import Mapping
from typing import Any, Literal

from numpy.random import Generator

from medvlp.data.lesion_places import PlaceVocabulary
from medvlp.data.statements import statement_id
from medvlp.data.text_sampler import Sections, Target, TextSampler, TextUnit
from medvlp.types import TextKind


class PlaceText(TextSampler):
    """Describe the place of a lesion, word for word as the vocabulary does.

    Args:
        level: Whether the stage is told the "coarse" place or the "fine" word.
        vocabulary: Name of a shipped one, or a file of places.
        descriptions: File of its texts, where they are a file of their own.
        negatives: Give all other texts as wrong ones, for `HardNegativeLoss`.

    Reference: HCL-AL (Gao et al., IEEE TMI 2025).
    """

    def __init__(
        self,
        level: Literal["coarse", "fine"],
        vocabulary: str,
        descriptions: str | None = None,
        *,
        negatives: bool = False,
    ) -> None:
        self.level: Literal["coarse", "fine"] = level
        self.vocabulary = PlaceVocabulary.load(vocabulary, descriptions)
        self.negatives = negatives

    def __call__(self, sections: Sections, generator: Generator) -> list[TextUnit]:
        """Make no text of a study without a lesion."""
        return []

    def about(
        self, sections: Sections, target: Target, generator: Generator, *, training: bool
    ) -> list[TextUnit]:
        """Describe the place of a lesion, of several the first; none if it is not known.

        Raises:
            ValueError: If the vocabulary does not describe it.
        """
        word = str((target or {}).get(self.level) or "").partition(",")[0]
        if not word:
            return []
        text = self.vocabulary.text_of(word)
        number = statement_id(text)
        wrong: tuple[str, ...] = ()
        if self.negatives and training:
            # coarse and fine alike, as published; each text once
            everything = dict.fromkeys(self.vocabulary.descriptions.values())
            wrong = tuple(other for other in everything if other != text)
        return [TextUnit(text, TextKind.SENTENCE, (number,), caption=number, negatives=wrong)]

    def has_texts(self, study: Mapping[str, Any]) -> bool:
        """Tell whether a study has a lesion whose place is known."""
        return any(lesion.get("coarse") for lesion in study.get("lesions", ()))
