"""What all evaluations by prompts share: encoded prompts, scored batches, rows."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from medvlp.evaluation.protocol import EmbedText, Evaluation
from medvlp.types import Tokens, VolumeBatch

TEXTS_PER_FORWARD = 64


def class_means(
    texts: Sequence[Sequence[str]],
    tokenizer: Callable[[list[str]], Tokens],
    embed_text: EmbedText,
    device: torch.device,
) -> Float[Tensor, "k e"]:
    """Average the normalised embeddings of the sentences of each class.

    A sentence that stands at several places is encoded once.

    Args:
        texts: For each class, its sentences; classes may have different numbers of them.
        tokenizer: Turns sentences into tokens on the CPU.
        embed_text: Maps tokens on `device` to embeddings.
        device: Where the text tower lives.
    """
    distinct = list(dict.fromkeys(text for sentences in texts for text in sentences))
    place = {text: row for row, text in enumerate(distinct)}
    embeddings = []
    for start in range(0, len(distinct), TEXTS_PER_FORWARD):
        tokens = tokenizer(distinct[start : start + TEXTS_PER_FORWARD])
        tokens = Tokens(tokens.input_ids.to(device), tokens.attention_mask.to(device))
        embeddings.append(embed_text(tokens).float())
    rows = F.normalize(torch.cat(embeddings), dim=-1)
    return torch.stack([rows[[place[text] for text in group]].mean(dim=0) for group in texts])


def class_embeddings(
    texts: Sequence[Sequence[str]],
    tokenizer: Callable[[list[str]], Tokens],
    embed_text: EmbedText,
    device: torch.device,
) -> Float[Tensor, "k e"]:
    """Encode the ensemble of each class: encode all, normalise, average, normalise.

    See `class_means`.
    """
    return F.normalize(class_means(texts, tokenizer, embed_text, device), dim=-1)


def scored_token(embedding: Float[Tensor, "b *p e"], token: int) -> Float[Tensor, "b e"]:
    """Take the embedding that an evaluation scores, in float32.

    Raises:
        ValueError: If the tower does not give so many.
    """
    embedding = embedding.detach().float()
    tokens = embedding.unsqueeze(1) if embedding.ndim == 2 else embedding
    if not 0 <= token < tokens.shape[1]:
        raise ValueError(
            f"the evaluation scores token {token}, the image tower gives {tokens.shape[1]} "
            f"embeddings of a study; set token to at most {tokens.shape[1] - 1}"
        )
    return tokens[:, token]


def any_label(labels: Int[Tensor, "b k"], columns: Sequence[Sequence[int]]) -> Int[Tensor, "b m"]:
    """Join label columns: 1 if any is 1, else -1 if any is unknown, else 0.

    >>> any_label(torch.tensor([[1, -1, 0], [0, -1, 0]]), [[0, 1], [2]]).tolist()
    [[1, 0], [-1, 0]]
    """
    groups = [labels[:, list(group)] for group in columns]
    joined = [torch.where((g == 1).any(dim=1), 1, g.amin(dim=1)) for g in groups]
    return torch.stack(joined, dim=1)


class PromptEvaluation(Evaluation):
    """Compare study embeddings with those of prompts; subclasses say what is made of it.

    Args:
        texts: For each column of the similarities, the sentences whose mean embedding it is.
        tokenizer: The one the text tower was trained with.
        label_names: Names of the columns of `batch["labels"]`, in their order.
        columns: Which of them are the label of each class; one of several is enough.
        token: Which embedding of a study is scored, where the image tower gives several.
    """

    def __init__(
        self,
        texts: Sequence[Sequence[str]],
        tokenizer: Callable[[list[str]], Tokens],
        *,
        label_names: Sequence[str],
        columns: Sequence[Sequence[int]],
        token: int = 0,
    ) -> None:
        self.tokenizer = tokenizer
        self.label_names = list(label_names)
        self.token = token
        self._texts = [list(sentences) for sentences in texts]
        self._columns = [list(group) for group in columns]
        self._classifier: Tensor | None = None
        self._scale: Tensor | None = None
        self._batches: list[dict[str, Any]] = []

    @abstractmethod
    def scores(
        self, cosine: Float[Tensor, "b m"], scale: Float[Tensor, "1"]
    ) -> tuple[Float[Tensor, "b k"], Bool[Tensor, "b k"]]:
        """Turn similarities to all prompts into scores and the protocol's decisions."""

    def cosines(
        self, image_embedding: Float[Tensor, "b *p e"], classifier: Float[Tensor, "m e"]
    ) -> Float[Tensor, "b m"]:
        """Compare the scored embedding of each study with all prompts."""
        return scored_token(image_embedding, self.token) @ classifier.T

    def prepare(
        self, embed_text: EmbedText, logit_scale: Float[Tensor, "1"], device: torch.device
    ) -> None:
        """Encode all class prompts under the template; see `Evaluation.prepare`."""
        with torch.no_grad():
            self._classifier = class_embeddings(self._texts, self.tokenizer, embed_text, device)
            self._scale = logit_scale.detach().float().exp().to(device)

    def update(self, image_embedding: Float[Tensor, "b *p e"], batch: VolumeBatch) -> None:
        """Score a batch in float32; nothing leaves the device before `rows`.

        A batch without labels is scored too, for prediction; its labels count as unknown.

        Raises:
            ValueError: If the labels are not those of `label_names`.
        """
        if self._classifier is None or self._scale is None:
            raise RuntimeError("update before prepare; call prepare once per model")
        labels = batch.get("labels")
        if labels is None or not labels.shape[1]:
            labels = torch.full((len(image_embedding), len(self.label_names)), -1)
        if labels.shape[1] != len(self.label_names):
            raise ValueError(
                f"the batch has {labels.shape[1]} labels, {len(self.label_names)} are expected: "
                f"{', '.join(self.label_names)}; set the same label_names for data and evaluation"
            )
        cosine = self.cosines(image_embedding, self._classifier)
        scores, decisions = self.scores(cosine, self._scale)
        kept = ("sample_id", "patient_id", "study_id", "recipe_hash", "metadata", "num_scans")
        self._batches.append(
            {
                "scores": scores,
                "decisions": decisions,
                "labels": any_label(labels, self._columns),
                **{key: value for key, value in batch.items() if key in kept},
            }
        )

    def rows(self) -> list[dict[str, Any]]:
        """Return one row per sample: ids, scores, decisions, labels, metadata."""
        rows = []
        for batch in self._batches:
            samples = batch["sample_id"]
            columns = {
                "sample_id": samples,
                "patient_id": batch["patient_id"],
                "study_id": batch.get("study_id", samples),
                "recipe_hash": [batch["recipe_hash"]] * len(samples),
                **{key: batch[key].tolist() for key in ("scores", "decisions", "labels")},
                "metadata": [dict(row) for row in batch.get("metadata") or [{}] * len(samples)],
            }
            for key in ("num_scans", "absent"):
                if key in batch:
                    columns[key] = batch[key].tolist()
            rows += [
                dict(zip(columns, values, strict=True))
                for values in zip(*columns.values(), strict=True)
            ]
        return rows

    def reset(self) -> None:
        """Forget all scored studies; the class prompts stay until the next `prepare`."""
        self._batches = []

    def _require_labels(self, rows: Sequence[dict[str, Any]]) -> None:
        """Refuse rows of which no label is known.

        Raises:
            ValueError: If there are rows and none has a known label.
        """
        if rows and all(label == -1 for row in rows for label in row["labels"]):
            samples = len({row["sample_id"] for row in rows})
            raise ValueError(
                f"none of {samples} samples has a known label: there is nothing to "
                "compare the scores with; use `evaluate predict`, or give the data set its labels"
            )
