"""One stage of the cascade alone: which description is nearest to a lesion."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Literal

import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from medvlp.data.lesion_table import names_of
from medvlp.evaluation.localisation import Localisation, lesions_of
from medvlp.evaluation.place_cascade import LesionFacts, PlaceAnswer, PlaceCascade, embed_words
from medvlp.evaluation.protocol import EmbedText
from medvlp.evaluation.results import Macro
from medvlp.evaluation.row_evaluation import Rows
from medvlp.types import Tokens, VolumeBatch

_COARSE = re.compile("coarse|region$")  # figures of places, not "region: Chest", a group of lesions


class PlaceRetrieval(Localisation):
    """Rank the places of one stage for each lesion; an `Evaluation` of two towers.

    The coarse stage ranks all coarse places; its predictions.csv over the training lesions tells
    the fine stage's `FineBatches` what is confused. The fine stage ranks what lies within the true
    coarse places of a lesion: `top1` is its accuracy where the coarse stage is right, and there
    are no figures of regions and coarse places, which are given. Both in a row are
    `CascadeRetrieval`.

    Args:
        vocabulary: Name of a shipped one, or a file of places, see `medvlp.data.place_file`.
        tokenizer: The one the text tower was trained with.
        level: Which stage.
        descriptions: File of the vocabulary's texts, where they are a file of their own.
        top_k: How many coarse places are kept.
        num_resamples: Bootstrap resamples of patients.
        seed: Of the bootstrap.
    """

    def __init__(
        self,
        vocabulary: str,
        tokenizer: Callable[[list[str]], Tokens],
        *,
        level: Literal["coarse", "fine"],
        descriptions: str | None = None,
        top_k: int = 5,
        num_resamples: int = 1000,
        seed: int = 0,
    ) -> None:
        super().__init__(vocabulary, descriptions, num_resamples=num_resamples, seed=seed)
        self.tokenizer, self.level = tokenizer, level
        self.protocol = f"{type(self).protocol}/{level} stage"
        self.coarse_is_given = level == "fine"
        # a stage alone is asked about lesions of any size
        self.cascade = PlaceCascade(self.vocabulary, top_k, max_fine_mm=float("inf"))
        self._texts: Tensor | None = None

    def prepare(
        self, embed_text: EmbedText, logit_scale: Float[Tensor, "1"], device: torch.device
    ) -> None:
        """Embed the descriptions of all places of the stage."""
        places = self.vocabulary
        words = places.coarse_words if self.level == "coarse" else places.all_fine_words

        def embed(tokens: Tokens) -> Tensor:
            return embed_text(Tokens(*(part.to(device) for part in tokens)))

        self._texts = embed_words(places, words, self.tokenizer, embed).float().cpu()

    def update(
        self, image_embedding: Sequence[PlaceAnswer] | Float[Tensor, "b e"], batch: VolumeBatch, /
    ) -> None:
        """Rank places and keep them beside the true ones.

        Raises:
            ValueError: If the batch is not of lesions, or answers came in place of embeddings.
        """
        assert self._texts is not None
        if not isinstance(image_embedding, Tensor):
            raise ValueError(
                f"{len(image_embedding)} answers of a cascade came: they are for Localisation"
            )
        cosine = image_embedding.float().cpu() @ self._texts.T
        if self.level == "coarse":
            ranked = self.cascade.coarse(cosine)
            answers = [PlaceAnswer((), (), tuple(row), tuple(row.values())) for row in ranked]
        else:
            targets = lesions_of(batch)
            people = batch.get("metadata") or [{}] * len(targets)
            lesions = [
                LesionFacts(tuple(row["box_mm"][3:]), _sex(person))
                for row, person in zip(targets, people, strict=True)
            ]
            answers = self.cascade.answers(self.coarse_places(batch), cosine, lesions)
        super().update(answers, batch)

    def macros(self, rows: Rows, weights: Float[ndarray, "r n"]) -> tuple[list[Macro], list[str]]:
        """Return the figures of what the stage has learned, see `lesion_metrics`."""
        macros, notes = super().macros(rows, weights)
        if not self.coarse_is_given:
            return macros, notes
        told = "no figures of regions and coarse places: the true ones are given to the fine stage"
        return _without_coarse(macros), [*notes, told]

    def coarse_places(self, batch: VolumeBatch) -> list[dict[str, float]]:
        """Give the coarse places that the fine stage looks into: of each lesion the true ones."""
        return [dict.fromkeys(names_of(row.get("coarse", "")), 1.0) for row in lesions_of(batch)]


def _without_coarse(macros: Sequence[Macro]) -> list[Macro]:
    """Leave out the figures of regions and coarse places."""
    return [
        replace(macro, figures={k: one for k, one in macro.figures.items() if not _COARSE.match(k)})
        for macro in macros
        if not _COARSE.match(macro.name)
    ]


def _sex(metadata: Mapping[str, str]) -> str:
    """Read "F", "Female" and the like.

    >>> _sex({"sex": "male"}), _sex({"sex": "unknown"})
    ('M', '')
    """
    initial = metadata.get("sex", "").strip()[:1].upper()
    return initial if initial in ("F", "M") else ""
