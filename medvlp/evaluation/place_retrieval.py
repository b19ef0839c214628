"""One stage of the cascade, alone or after the other: which description is nearest to a lesion."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from medvlp.data.lesion_table import names_of, ranked_coarse
from medvlp.data.tables import read_table
from medvlp.evaluation.localisation import Localisation, lesions_of
from medvlp.evaluation.place_cascade import LesionFacts, PlaceAnswer, PlaceCascade, embed_words
from medvlp.types import Tokens, VolumeBatch


class PlaceRetrieval(Localisation):
    """Rank the places of one stage for each lesion; an `Evaluation` of two towers.

    The coarse stage ranks all coarse places; its predictions.csv over the training lesions tells
    the fine stage's `FineBatches` what is confused. The fine stage ranks what lies within the true
    coarse places of a lesion: `top1` is then its accuracy where the coarse stage is right. With
    `coarse` it ranks what lies within the answers of the coarse stage: that is the whole cascade.

    Args:
        vocabulary: Name of a shipped one, or a file of places, see `medvlp.data.place_file`.
        tokenizer: The one the text tower was trained with.
        level: Which stage.
        descriptions: File of the vocabulary's texts, where they are a file of their own.
        coarse: For the fine stage: predictions.csv of the coarse one over the same lesions.
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
        coarse: str | None = None,
        top_k: int = 5,
        num_resamples: int = 1000,
        seed: int = 0,
    ) -> None:
        super().__init__(vocabulary, descriptions, num_resamples=num_resamples, seed=seed)
        if coarse is not None and level == "coarse":
            raise ValueError(f"coarse is {coarse!r}: the coarse stage has none before it")
        self.tokenizer, self.level, self.coarse = tokenizer, level, coarse
        which = f"{level} stage" if coarse is None else "cascade"
        self.protocol = f"{type(self).protocol}/{which}"
        self.cascade = PlaceCascade(self.vocabulary, top_k)
        if coarse is None:  # a stage alone is asked about lesions of any size
            self.cascade.max_fine_mm = float("inf")
        self._texts: Tensor | None = None
        self._answered: dict[str, dict[str, float]] = {}

    def prepare(
        self,
        embed_text: Callable[[Tokens], Tensor],
        logit_scale: Float[Tensor, "1"],
        device: torch.device,
    ) -> None:
        """Embed the descriptions of all places of the stage, and read what the other answered.

        Raises:
            FileNotFoundError, ValueError: If its answers cannot be read.
        """
        places = self.vocabulary
        words = places.coarse_words if self.level == "coarse" else places.all_fine_words

        def embed(tokens: Tokens) -> Tensor:
            return embed_text(Tokens(*(part.to(device) for part in tokens)))

        self._texts = embed_words(places, words, self.tokenizer, embed).float().cpu()
        if self.coarse is not None and not self._answered:
            columns = ("sample_id", "coarse_labels", "coarse_probs")
            rows = read_table(Path(self.coarse), columns)
            self._answered = {row["sample_id"]: ranked_coarse(row) for row in rows}

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
            lesions = [LesionFacts(tuple(row["box_mm"][3:])) for row in targets]
            answers = self.cascade.answers(self._coarse(batch, targets), cosine, lesions)
        super().update(answers, batch)

    def _coarse(
        self, batch: VolumeBatch, targets: Sequence[dict[str, Any]]
    ) -> list[dict[str, float]]:
        """Give the coarse places of each lesion: those answered, or the true ones."""
        if self.coarse is None:
            return [dict.fromkeys(names_of(row.get("coarse", "")), 1.0) for row in targets]
        known = self._answered
        for name, target in zip(batch["sample_id"], targets, strict=True):
            if target.get("place") and name not in known:
                raise ValueError(
                    f"{self.coarse} lacks the lesion {name}; evaluate the coarse stage over all "
                    "lesions: +data.splits.test=all"
                )
        kept = self.cascade.top_k
        return [dict([*known.get(name, {}).items()][:kept]) for name in batch["sample_id"]]
