"""What a system asks of an evaluation, whatever it measures."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from medvlp.evaluation.results import Results
from medvlp.types import Tokens, VolumeBatch

EmbedText = Callable[[Tokens], Tensor]
"""Maps tokens to L2-normalised embeddings (t e), on the device of the tokens."""


class Evaluation(ABC):
    """Measure a model on the studies of a split.

    The caller runs `reset`, `prepare`, `update` for every batch, gathers `rows` over all ranks,
    and calls `compute` on the gathered list. `compute` depends on its argument alone.

    A base class rather than a `typing.Protocol`: LightningCLI accepts an implementation of a
    protocol only if its annotations are the very same objects, which jaxtyping's are not.
    """

    @abstractmethod
    def prepare(
        self, embed_text: EmbedText, logit_scale: Float[Tensor, "1"], device: torch.device
    ) -> None:
        """Encode what stays the same for all studies: once per model, not per volume.

        Args:
            embed_text: See `EmbedText`; its tokens come on `device`.
            logit_scale: In log space, as the model stores it.
            device: Where the embeddings live.
        """

    @abstractmethod
    def update(self, outcome: Any, batch: VolumeBatch, /) -> None:
        """Score what the model made of one batch and keep the scores.

        Args:
            outcome: Of two towers the normalised study embeddings (b *p e), where the axis p is
                that of several embeddings of a study; of a language model one text per study.
            batch: The studies.
        """

    @abstractmethod
    def rows(self) -> list[dict[str, Any]]:
        """Return one picklable dictionary per scored study, for gathering over ranks."""

    @abstractmethod
    def compute(self, rows: list[dict[str, Any]]) -> Results:
        """Turn gathered rows into figures; repeated `sample_id`s are dropped and counted."""

    @property
    @abstractmethod
    def class_names(self) -> list[str]:
        """Names of the scores of a row, in their order."""

    @abstractmethod
    def reset(self) -> None:
        """Forget all scored studies."""
