"""From similarities to the name of a place: coarse places first, then what lies within them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from medvlp.data.lesion_places import PlaceVocabulary
from medvlp.data.place_file import Place
from medvlp.models.hcl_al import INFERENCE_SCALE
from medvlp.types import Tokens


@dataclass(frozen=True)
class PlaceAnswer:
    """Where a lesion is.

    Attributes:
        names: Final names, best first; a coarse place where the lesion is too large for more.
        probabilities: Of the names.
        coarse: Coarse places, best first, at most as many as the cascade looks into.
        coarse_probabilities: Of the coarse places.
        fine: Fine words, best first; empty where there is no fine stage.
        fine_coarse: The coarse place of each fine word.
        fine_probabilities: Of the fine words.
    """

    names: tuple[str, ...]
    probabilities: tuple[float, ...]
    coarse: tuple[str, ...]
    coarse_probabilities: tuple[float, ...]
    fine: tuple[str, ...] = ()
    fine_coarse: tuple[str, ...] = ()
    fine_probabilities: tuple[float, ...] = ()


class LesionFacts(NamedTuple):
    """What is known of a lesion besides its image.

    Attributes:
        sides_mm: Full sides of its box.
        sex: Of the patient: "F", "M", or empty.
    """

    sides_mm: tuple[float, float, float]
    sex: str = ""


class _Candidate(NamedTuple):
    place: Place
    coarse_probability: float


class _Ranked(NamedTuple):
    candidate: _Candidate
    probability: float


class PlaceCascade:
    """Name places from the cosines of a lesion with coarse places and with fine words.

    Args:
        vocabulary: The places.
        top_k: How many coarse places are looked into; None looks into all.
        fusion_threshold: If no fine word is as probable as this, its probability is averaged with
            that of its coarse place; 0 never does it.
        max_fine_mm: A lesion whose smallest side is longer gets the name of the coarse place.
        filter_by_sex: Leave out places that the patient's sex does not have.
        filter_by_size: Leave out places that are smaller than the lesion's smallest side.
        compat: "published" gives a fine word of several coarse places to the one whose other words
            rank first; None to the most probable one. The first name is the same.

    Reference: HCL-AL (Gao et al., IEEE TMI 2025), published inference.
    """

    def __init__(
        self,
        vocabulary: PlaceVocabulary,
        top_k: int | None = 3,
        *,
        fusion_threshold: float = 0.0,
        max_fine_mm: float = 100.0,
        filter_by_sex: bool = True,
        filter_by_size: bool = True,
        compat: Literal["published"] | None = None,
    ) -> None:
        if top_k is not None and top_k < 1:
            raise ValueError(f"top_k is {top_k}: look into at least one coarse place, or all: null")
        self.vocabulary, self.top_k = vocabulary, top_k
        self.fusion_threshold, self.max_fine_mm = fusion_threshold, max_fine_mm
        self.filter_by_sex, self.filter_by_size = filter_by_sex, filter_by_size
        self.compat: Literal["published"] | None = compat
        self._fine_column = {word: k for k, word in enumerate(vocabulary.all_fine_words)}
        self._owners: dict[str, dict[str, Place]] = {}
        for place in vocabulary.places:
            self._owners.setdefault(place.fine, {})[place.coarse] = place

    def coarse(self, cosine: Float[Tensor, "b k"]) -> list[dict[str, float]]:
        """Rank the coarse places of each lesion, with their probabilities.

        Args:
            cosine: With the vocabulary's coarse words, in their order.
        """
        words = self.vocabulary.coarse_words
        return [dict(_ranked(words, row)[: self.top_k]) for row in _probabilities(cosine)]

    def answers(
        self,
        coarse: Sequence[Mapping[str, float]],
        fine_cosine: Float[Tensor, "b w"] | None,
        lesions: Sequence[LesionFacts],
    ) -> list[PlaceAnswer]:
        """Name the place of each lesion.

        Args:
            coarse: Ranked coarse places, see `coarse`.
            fine_cosine: With all fine words of the vocabulary, in their order; None leaves the
                fine stage out, and the names are coarse places.
            lesions: What else is known.

        Raises:
            ValueError: If a coarse place is not of the vocabulary.
        """
        answers: list[PlaceAnswer] = []
        for row, (places, lesion) in enumerate(zip(coarse, lesions, strict=True)):
            ranked: list[_Ranked] = []
            if fine_cosine is not None:
                ranked = self._rank(self._candidates(places, lesion), fine_cosine[row])
            answers.append(self._answer(places, ranked, lesion))
        return answers

    def _candidates(self, coarse: Mapping[str, float], lesion: LesionFacts) -> list[_Candidate]:
        """Collect the fine words of ranked coarse places, each word once."""
        found: dict[str, _Candidate] = {}
        for name, probability in coarse.items():
            for place in self.vocabulary.within(name):
                if place.fine not in found and self._fits(place, lesion):
                    found[place.fine] = _Candidate(place, probability)
        return list(found.values())

    def _fits(self, place: Place, lesion: LesionFacts) -> bool:
        if self.filter_by_sex and place.gender and lesion.sex and place.gender != lesion.sex:
            return False
        too_large = place.max_size_mm and min(lesion.sides_mm) > place.max_size_mm
        return not (self.filter_by_size and too_large)

    def _rank(self, candidates: Sequence[_Candidate], cosine: Float[Tensor, " w"]) -> list[_Ranked]:
        """Rank candidates by a softmax over them alone."""
        if not candidates:
            return []
        columns = [self._fine_column[one.place.fine] for one in candidates]
        values = _probabilities(cosine[columns][None])[0].tolist()
        if max(values) < self.fusion_threshold:
            values = [
                0.5 * one.coarse_probability + 0.5 * value
                for one, value in zip(candidates, values, strict=True)
            ]
        ranked = map(_Ranked, candidates, values)
        return sorted(ranked, key=lambda one: -one.probability)  # stable: earlier candidates first

    def _answer(
        self, coarse: Mapping[str, float], ranked: Sequence[_Ranked], lesion: LesionFacts
    ) -> PlaceAnswer:
        order = list(dict.fromkeys(one.candidate.place.coarse for one in ranked))
        shown = [one for one in ranked if one.probability != 0]
        places = [self._placed(one.candidate.place, order) for one in shown]
        named = {place.name: one.probability for place, one in zip(places, shown, strict=True)}
        if not named:
            named = dict(coarse)
        elif min(lesion.sides_mm) > self.max_fine_mm:
            first = next(iter(coarse))
            named = {first: coarse[first]} | {k: v for k, v in named.items() if k != first}
        return PlaceAnswer(
            names=tuple(named),
            probabilities=tuple(named.values()),
            coarse=tuple(coarse),
            coarse_probabilities=tuple(coarse.values()),
            fine=tuple(place.fine for place in places),
            fine_coarse=tuple(place.coarse for place in places),
            fine_probabilities=tuple(one.probability for one in shown),
        )

    def _placed(self, place: Place, order: Sequence[str]) -> Place:
        """Choose the coarse place of a fine word; `order` is that in which their words rank."""
        if self.compat is None:
            return place
        owners = self._owners[place.fine]
        return next(owners[name] for name in order if name in owners)


def embed_words(
    vocabulary: PlaceVocabulary,
    words: Sequence[str],
    tokenizer: Callable[[list[str]], Tokens],
    embed_text: Callable[[Tokens], Tensor],
    *,
    batch_size: int = 64,
) -> Float[Tensor, "k e"]:
    """Embed the descriptions of words.

    Args:
        vocabulary: Has the descriptions.
        words: Coarse places or fine words.
        tokenizer: The one the text tower was trained with.
        embed_text: From tokens to L2-normalised embeddings.
        batch_size: Texts at once; those of like length go together.

    Raises:
        ValueError: If a word has no description.
    """
    texts = [vocabulary.text_of(word) for word in words]
    order = tokenizer(texts).attention_mask.sum(dim=1).argsort(stable=True)
    parts = [
        embed_text(tokenizer([texts[index] for index in some.tolist()]))
        for some in order.split(batch_size)
    ]
    return torch.cat(parts)[order.argsort()]


def _probabilities(cosine: Float[Tensor, "b k"]) -> Float[Tensor, "b k"]:
    return (INFERENCE_SCALE * cosine.float()).softmax(dim=-1)


def _ranked(words: Sequence[str], values: Float[Tensor, " k"]) -> list[tuple[str, float]]:
    """Sort by probability, earlier words first where it is equal; those of 0 are left out."""
    ordered, columns = values.sort(descending=True, stable=True)
    pairs = zip(columns.tolist(), ordered.tolist(), strict=True)
    return [(words[int(column)], float(value)) for column, value in pairs if value != 0]
