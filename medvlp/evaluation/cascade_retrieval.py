"""The whole cascade while only its fine stage is at hand: what the coarse one said is in a file."""

from collections.abc import Callable
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from medvlp.data.lesion_table import ranked_coarse
from medvlp.data.tables import read_table
from medvlp.evaluation.localisation import Localisation, lesions_of
from medvlp.evaluation.place_cascade import PlaceCascade
from medvlp.evaluation.place_retrieval import PlaceRetrieval
from medvlp.evaluation.protocol import EmbedText
from medvlp.types import Tokens, VolumeBatch


class CascadeRetrieval(PlaceRetrieval):
    """Rank what lies within the answers of the coarse stage; an `Evaluation` of the fine one.

    The patient's sex rules places out where the data knows it (metadata `sex`), and the size of
    the lesion as in `PlaceCascade`.

    Args:
        vocabulary: Name of a shipped one, or a file of places, see `medvlp.data.place_file`.
        tokenizer: The one the text tower was trained with.
        coarse: predictions.csv of the coarse stage over all lesions; None until it is known.
        descriptions: File of the vocabulary's texts, where they are a file of their own.
        top_k: How many coarse places are looked into.
        fusion_threshold: See `PlaceCascade`; published as fuse_coarse_thres.
        num_resamples: Bootstrap resamples of patients.
        seed: Of the bootstrap.
    """

    def __init__(
        self,
        vocabulary: str,
        tokenizer: Callable[[list[str]], Tokens],
        *,
        coarse: str | None = None,
        descriptions: str | None = None,
        top_k: int = 3,
        fusion_threshold: float = 0.0,
        num_resamples: int = 1000,
        seed: int = 0,
    ) -> None:
        super().__init__(
            vocabulary,
            tokenizer,
            level="fine",
            descriptions=descriptions,
            num_resamples=num_resamples,
            seed=seed,
        )
        self.coarse = coarse
        self.protocol = f"{Localisation.protocol}/cascade"
        self.coarse_is_given = False  # but answered, and so measured
        self.cascade = PlaceCascade(self.vocabulary, top_k, fusion_threshold=fusion_threshold)
        self._answered: dict[str, dict[str, float]] = {}

    def prepare(
        self, embed_text: EmbedText, logit_scale: Float[Tensor, "1"], device: torch.device
    ) -> None:
        """Embed the descriptions of all fine words, and read what the coarse stage answered.

        Raises:
            FileNotFoundError, ValueError: If its answers cannot be read.
        """
        if self.coarse is None:
            raise ValueError(
                "the cascade goes on from the answers of the coarse stage, and none are given; set "
                "evaluation.cascade.coarse to its predictions.csv over all lesions (evaluate test "
                "--ckpt_path=COARSE +data.splits.test=all), or choose the fine stage alone: "
                "evaluation=hcl_al_fine"
            )
        super().prepare(embed_text, logit_scale, device)
        if not self._answered:
            columns = ("sample_id", "coarse_labels", "coarse_probs")
            rows = read_table(Path(self.coarse), columns)
            self._answered = {row["sample_id"]: ranked_coarse(row) for row in rows}

    def coarse_places(self, batch: VolumeBatch) -> list[dict[str, float]]:
        """Give the coarse places that were answered of each lesion.

        Raises:
            ValueError: If there is no answer of a lesion whose place is known.
        """
        known = self._answered
        for name, target in zip(batch["sample_id"], lesions_of(batch), strict=True):
            if target.get("place") and name not in known:
                raise ValueError(
                    f"{self.coarse} lacks the lesion {name}; evaluate the coarse stage over all "
                    "lesions: +data.splits.test=all"
                )
        kept = self.cascade.top_k
        return [dict([*known.get(name, {}).items()][:kept]) for name in batch["sample_id"]]
