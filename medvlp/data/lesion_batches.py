"""Batches of lesions, drawn by their places rather than walked through."""

import logging
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import Generator

from medvlp.data.batching import Batch, FixedSize, Order, SampleFacts
from medvlp.data.lesion_places import PlaceVocabulary
from medvlp.data.lesion_sampling import LesionIndex, LesionTag, draw_coarse, draw_fine
from medvlp.data.lesion_table import names_of
from medvlp.data.tables import read_table

_LOG = logging.getLogger(__name__)


class LesionBatches(FixedSize):
    """Draws every batch of a training epoch anew; an evaluation shows every lesion once.

    Samples are lesions at one place each: `medvlp.data.sampling.EachPlace`.

    Args:
        vocabulary: Name of a shipped one, or a file of places.
        region_weights: How often each body region is drawn; None draws all alike.
    """

    repeats = True

    def __init__(self, vocabulary: str, region_weights: dict[str, float] | None = None) -> None:
        self.vocabulary = PlaceVocabulary.load(vocabulary)
        self.region_weights = region_weights
        self._index: tuple[SampleFacts, LesionIndex] | None = None

    @abstractmethod
    def draw(self, index: LesionIndex, batch_size: int, generator: Generator) -> list[int]:
        """Draw one batch."""

    def confused(self, facts: SampleFacts) -> Mapping[str, tuple[str, ...]]:
        """Tell what the coarse stage took lesions for."""
        return {}

    def index(self, facts: SampleFacts) -> LesionIndex:
        """Sort the lesions by their places, once.

        Raises:
            ValueError: If samples are no lesions at one place each, or nothing can be drawn.
        """
        if self._index is None or self._index[0] is not facts:
            if not facts.places:
                raise ValueError(
                    "samples are not lesions at one place each; set data.scans.train: "
                    "medvlp.data.sampling.EachPlace, and a vocabulary with the data"
                )
            confused = self.confused(facts)
            tags = [LesionTag(c, f, confused.get(lesion, ())) for lesion, c, f in facts.places]
            self._index = facts, LesionIndex(tags, self.vocabulary, self.region_weights)
        return self._index[1]

    def batches(
        self, order: Order, facts: SampleFacts, batch_size: int, *, generator: Generator | None
    ) -> list[Batch]:
        """See `Batching.batches`."""
        if generator is None:
            return super().batches(order, facts, batch_size, generator=None)
        index = self.index(facts)
        number = self.num_full_batches(facts, batch_size)
        return [np.array(self.draw(index, batch_size, generator)) for _ in range(number)]

    def describe(self) -> dict[str, Any]:
        """See `Batching.describe`."""
        own = {key: value for key, value in vars(self).items() if key != "_index"}
        return {"kind": type(self).__name__} | own | {"vocabulary": self.vocabulary.digest}


class CoarseBatches(LesionBatches):
    """Lesions of different coarse places, most of them of few body regions.

    Args:
        vocabulary: See `LesionBatches`.
        region_weights: See `LesionBatches`.
        num_regions: Body regions drawn at a time.
        samples_per_word: An epoch has so many samples for each coarse place with lesions.

    Reference: HCL-AL (Gao et al., IEEE TMI 2025), published coarse training.
    """

    def __init__(
        self,
        vocabulary: str,
        region_weights: dict[str, float] | None = None,
        *,
        num_regions: int = 2,
        samples_per_word: int = 100,
    ) -> None:
        super().__init__(vocabulary, region_weights)
        if num_regions < 1 or samples_per_word < 1:
            raise ValueError(
                f"num_regions is {num_regions} and samples_per_word {samples_per_word}, expected "
                "at least 1"
            )
        self.num_regions, self.samples_per_word = num_regions, samples_per_word

    def num_full_batches(self, facts: SampleFacts, batch_size: int) -> int:
        """See `Batching.num_full_batches`."""
        index = self.index(facts)
        index.require_words(batch_size)
        return self.samples_per_word * index.num_words // batch_size

    def draw(self, index: LesionIndex, batch_size: int, generator: Generator) -> list[int]:
        """See `draw_coarse`."""
        return draw_coarse(index, batch_size, generator, num_regions=self.num_regions)


class FineBatches(LesionBatches):
    """Lesions of different places, most of them places that the coarse stage confuses.

    Args:
        vocabulary: See `LesionBatches`.
        region_weights: See `LesionBatches`.
        predictions: Table with sample_id (study and lesion id) and coarse_labels, joined with
            commas, as an evaluation of the coarse stage over the training lesions writes it; None
            leaves only a lesion's own coarse place.
        related: Share of a batch that comes from places easily confused.
        batches_per_epoch: Length of an epoch.

    Reference: HCL-AL (Gao et al., IEEE TMI 2025), published fine training.
    """

    def __init__(
        self,
        vocabulary: str,
        region_weights: dict[str, float] | None = None,
        *,
        predictions: str | None = None,
        related: float = 0.8,
        batches_per_epoch: int = 500,
    ) -> None:
        super().__init__(vocabulary, region_weights)
        if not 0 <= related <= 1 or batches_per_epoch < 1:
            raise ValueError(
                f"related is {related} and batches_per_epoch {batches_per_epoch}, expected a share "
                "and at least 1"
            )
        self.predictions, self.related = predictions, related
        self.batches_per_epoch = batches_per_epoch

    def num_full_batches(self, facts: SampleFacts, batch_size: int) -> int:
        """See `Batching.num_full_batches`."""
        self.index(facts).require_pairs(batch_size)
        return self.batches_per_epoch

    def confused(self, facts: SampleFacts) -> Mapping[str, tuple[str, ...]]:
        """Read the predictions of the coarse stage.

        Raises:
            FileNotFoundError, ValueError: If they cannot be read, or are of other lesions.
        """
        if self.predictions is None:
            return {}
        rows = read_table(Path(self.predictions), ("sample_id", "coarse_labels"))
        read = {row["sample_id"]: tuple(names_of(row["coarse_labels"])) for row in rows}
        lesions = {lesion for lesion, _, _ in facts.places}
        if without := lesions - set(read):
            if without == lesions:
                raise ValueError(
                    f"{self.predictions} has none of the {len(lesions)} lesions: its first is "
                    f"{next(iter(read))}, that of the data {min(lesions)}"
                )
            _LOG.warning(
                "%d of %d lesions have no prediction in %s: only their own coarse place is "
                "related to them",
                len(without),
                len(lesions),
                self.predictions,
            )
        return read

    def draw(self, index: LesionIndex, batch_size: int, generator: Generator) -> list[int]:
        """See `draw_fine`."""
        return draw_fine(index, batch_size, generator, related=self.related)
