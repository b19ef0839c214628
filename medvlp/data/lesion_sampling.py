"""Which lesions a contrastive batch is made of: coarse places apart, or places easily confused."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from medvlp.data.lesion_places import PlaceVocabulary
from medvlp.data.tables import nearest

_Item = TypeVar("_Item")


class LesionTag(NamedTuple):
    """What a sampler knows of a lesion at one place; a lesion at several places has several.

    Attributes:
        coarse: Its coarse place.
        fine: Its fine word within that.
        confused: Coarse places that the coarse stage took it for, best first.
    """

    coarse: str
    fine: str
    confused: tuple[str, ...] = ()


class LesionIndex:
    """Lesions by body region, coarse place and fine word, in the order of the vocabulary.

    Regions without a lesion are never drawn.

    Args:
        tags: Of the lesions, which are then known by their numbers.
        vocabulary: Tells the regions.
        region_weights: How often each body region is drawn; None draws all alike.

    Raises:
        ValueError: If a place or region is not of the vocabulary, or nothing can be drawn.
    """

    def __init__(
        self,
        tags: Sequence[LesionTag],
        vocabulary: PlaceVocabulary,
        region_weights: Mapping[str, float] | None = None,
    ) -> None:
        self.tags = tuple(tags)
        found: dict[tuple[str, str], list[int]] = {}
        for number, tag in enumerate(self.tags):
            if tag.fine not in vocabulary.fine_words(tag.coarse):
                advice = nearest(tag.fine, vocabulary.fine_words(tag.coarse))
                raise ValueError(f"{tag.fine!r} is not a fine word of {tag.coarse!r}{advice}")
            for coarse in tag.confused:
                vocabulary.within(coarse)
            found.setdefault((tag.coarse, tag.fine), []).append(number)
        self.coarse: dict[str, dict[str, list[int]]] = {}
        regions: dict[str, list[str]] = {}
        for place in vocabulary.places:
            lesions = found.get((place.coarse, place.fine))
            if lesions:
                if place.coarse not in self.coarse:
                    regions.setdefault(place.body, []).append(place.coarse)
                self.coarse.setdefault(place.coarse, {})[place.fine] = lesions
        weights = _checked_weights(vocabulary, region_weights)
        self.regions = {name: words for name, words in regions.items() if weights[name] > 0}
        if not self.regions:
            raise ValueError(
                f"none of {len(self.tags)} lesions lies in a body region that is drawn"
            )
        shares = np.array([weights[name] for name in self.regions])
        self._bounds: Float[ndarray, " r"] = np.cumsum(shares / shares.sum())
        self._words = list(self.regions.values())

    @property
    def num_words(self) -> int:
        """Count the coarse places that can be drawn."""
        return sum(map(len, self._words))

    @property
    def num_pairs(self) -> int:
        """Count the pairs of coarse place and fine word that can be drawn."""
        return sum(len(self.coarse[word]) for words in self._words for word in words)

    def require_words(self, batch_size: int) -> None:
        """Raise a ValueError unless a batch can have different coarse places."""
        _require(self.num_words, batch_size, "coarse places")

    def require_pairs(self, batch_size: int) -> None:
        """Raise a ValueError unless a batch can have different pairs."""
        _require(self.num_pairs, batch_size, "pairs of coarse place and fine word")

    def draw_region(self, generator: np.random.Generator) -> list[str]:
        """Draw a body region by its weight, and return its coarse places."""
        place = int(np.searchsorted(self._bounds, generator.random(), side="right"))
        return self._words[min(place, len(self._words) - 1)]

    def lesions(self, coarse: str) -> list[int]:
        """List the lesions of a coarse place."""
        return [lesion for lesions in self.coarse[coarse].values() for lesion in lesions]


def draw_coarse(
    index: LesionIndex, batch_size: int, generator: np.random.Generator, *, num_regions: int = 2
) -> list[int]:
    """Draw lesions of different coarse places, most of them of few body regions.

    Body regions are drawn `num_regions` at a time until they have enough coarse places.

    Reference: HCL-AL (Gao et al., IEEE TMI 2025), published coarse training.
    """
    index.require_words(batch_size)
    words: dict[str, None] = {}
    while len(words) < batch_size:
        for _ in range(num_regions):
            words |= dict.fromkeys(index.draw_region(generator))
    chosen = generator.choice(len(words), batch_size, replace=False)
    names = list(words)
    return [_one(index.lesions(names[int(place)]), generator) for place in chosen]


def draw_fine(
    index: LesionIndex, batch_size: int, generator: np.random.Generator, *, related: float = 0.8
) -> list[int]:
    """Draw lesions of different pairs of coarse place and fine word, most of them easily confused.

    A lesion is drawn; up to a share `related` of the batch comes from its coarse place and those
    that the coarse stage took it for, in their order; the rest from anywhere. Coarse places
    without a lesion are passed over, where the published code fails.

    Reference: HCL-AL (Gao et al., IEEE TMI 2025), published fine training.
    """
    index.require_pairs(batch_size)
    seed = index.tags[_one(index.lesions(_one(index.draw_region(generator), generator)), generator)]
    near = [
        (coarse, fine)
        for coarse in dict.fromkeys((seed.coarse, *seed.confused))
        for fine in index.coarse.get(coarse, ())
    ]
    pairs = dict.fromkeys(near[: int(batch_size * related)])
    while len(pairs) < batch_size:
        coarse = _one(index.draw_region(generator), generator)
        pairs[coarse, _one(list(index.coarse[coarse]), generator)] = None
    return [_one(index.coarse[coarse][fine], generator) for coarse, fine in pairs]


def _one(items: Sequence[_Item], generator: np.random.Generator) -> _Item:
    return items[int(generator.integers(len(items)))]


def _require(number: int, batch_size: int, what: str) -> None:
    if number < batch_size:
        raise ValueError(
            f"a batch of {batch_size} needs as many {what}, and the lesions have {number}; lower "
            "data.batch_size, or add lesions of other places"
        )


def _checked_weights(
    vocabulary: PlaceVocabulary, weights: Mapping[str, float] | None
) -> dict[str, float]:
    regions = list(dict.fromkeys(place.body for place in vocabulary.places))
    if weights is None:
        return dict.fromkeys(regions, 1.0)
    if set(weights) != set(regions) or min(weights.values()) < 0:
        raise ValueError(
            f"region_weights are {dict(weights)}, expected numbers from 0 for each of the body "
            f"regions of the vocabulary: {', '.join(regions)}"
        )
    return {name: float(weights[name]) for name in regions}
