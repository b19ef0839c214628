"""Zero-shot classification by pairs of class prompts, as HLIP evaluates chest CT."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from medvlp.evaluation.classification import (
    PUBLISHED_RULE,
    ClassificationProtocol,
    classification_results,
)
from medvlp.evaluation.protocol import Evaluation
from medvlp.evaluation.results import Results
from medvlp.evaluation.score_table import ScoreTable
from medvlp.prompts.prompt_set import PromptSet
from medvlp.types import Tokens, VolumeBatch

TEXTS_PER_FORWARD = 64


def class_embeddings(
    texts: Sequence[Sequence[str]],
    tokenizer: Callable[[list[str]], Tokens],
    embed_text: Callable[[Tokens], Tensor],
    device: torch.device,
) -> Float[Tensor, "k e"]:
    """Encode the template ensemble of each class: encode all, normalise, average, normalise.

    Args:
        texts: For each class, its sentences; classes may have different numbers of them.
        tokenizer: Turns sentences into tokens on the CPU.
        embed_text: Maps tokens on `device` to embeddings.
        device: Where the text tower lives.
    """
    flat = [text for sentences in texts for text in sentences]
    embeddings = []
    for start in range(0, len(flat), TEXTS_PER_FORWARD):
        tokens = tokenizer(flat[start : start + TEXTS_PER_FORWARD])
        tokens = Tokens(tokens.input_ids.to(device), tokens.attention_mask.to(device))
        embeddings.append(embed_text(tokens).float())
    parts = F.normalize(torch.cat(embeddings), dim=-1).split([len(group) for group in texts])
    return F.normalize(torch.stack([part.mean(dim=0) for part in parts]), dim=-1)


def pair_probabilities(
    cosine: Float[Tensor, "b k 2"], scale: Float[Tensor, "..."] | float
) -> Float[Tensor, "b k 2"]:
    """Softmax over the negative and the positive prompt of each class, at the learnt scale.

    >>> pair_probabilities(torch.tensor([[[0.2, 0.2]]]), 40.0).tolist()
    [[[0.5, 0.5]]]
    """
    return (cosine * scale).softmax(dim=-1)


class ZeroShotClassification(Evaluation):
    """Score every finding by its negative and positive prompt; an `Evaluation`.

    The unstarred figures decide by the more probable prompt, a tie being negative; the starred
    ones by a threshold (specs of HLIP's published evaluation).

    Args:
        prompts: Name of a shipped prompt set, or path of a YAML file.
        tokenizer: The one the text tower was trained with.
        label_names: Names of the columns of `batch["labels"]`, in their order; may hold more
            than the prompt set scores.
        template: Which of the set's templates.
        thresholds_from: Result file of a validation run of this protocol, whose operating points
            the starred figures use. Without it they are tuned on the scored data itself, as
            published.
        num_resamples: Bootstrap resamples of patients.
        seed: Of the bootstrap.
    """

    def __init__(
        self,
        prompts: str,
        tokenizer: Callable[[list[str]], Tokens],
        *,
        label_names: Sequence[str],
        template: str = "volume",
        thresholds_from: str | None = None,
        num_resamples: int = 1000,
        seed: int = 0,
    ) -> None:
        self.prompts = PromptSet.load(prompts)
        self.tokenizer = tokenizer
        self.label_names = list(label_names)
        self.template = template
        self.protocol = self._protocol(thresholds_from, num_resamples, seed)
        names = self.prompts.class_names
        missing = [name for name in names if name not in self.label_names]
        if missing:
            raise ValueError(
                f"prompt set {prompts} scores {', '.join(missing)}, the data set has no such label "
                f"among {', '.join(self.label_names)}; use another prompt set or correct the names"
            )
        self._columns = [self.label_names.index(name) for name in names]
        self._texts = [text for name in names for text in self.prompts.texts(name, template)]
        self._classifier: Tensor | None = None
        self._scale: Tensor | None = None
        self._batches: list[dict[str, Any]] = []

    def prepare(
        self,
        embed_text: Callable[[Tokens], Tensor],
        logit_scale: Float[Tensor, "1"],
        device: torch.device,
    ) -> None:
        """Encode all class prompts under the template; see `Evaluation.prepare`."""
        with torch.no_grad():
            self._classifier = class_embeddings(self._texts, self.tokenizer, embed_text, device)
            self._scale = logit_scale.detach().float().exp().to(device)

    def update(self, image_embedding: Float[Tensor, "b e"], batch: VolumeBatch) -> None:
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
        cosine = image_embedding.detach().float() @ self._classifier.T
        pairs = cosine.unflatten(1, (len(self._columns), 2))
        self._batches.append(
            {
                "probability": pair_probabilities(pairs, self._scale),
                "labels": labels[:, self._columns],
                "sample_id": list(batch["sample_id"]),
                "patient_id": list(batch["patient_id"]),
                "recipe_hash": batch["recipe_hash"],
                "metadata": batch.get("metadata"),
            }
        )

    @property
    def class_names(self) -> list[str]:
        """Names of the scores of a row, in their order."""
        return self.prompts.class_names

    def rows(self) -> list[dict[str, Any]]:
        """Return one row per sample: ids, scores, decisions, labels, metadata."""
        rows = []
        for batch in self._batches:
            negative, positive = batch["probability"].cpu().unbind(dim=-1)
            metadata = batch["metadata"] or [{}] * len(batch["sample_id"])
            rows += [
                {
                    "sample_id": sample,
                    "patient_id": batch["patient_id"][i],
                    "recipe_hash": batch["recipe_hash"],
                    "scores": positive[i].tolist(),
                    "decisions": (positive[i] > negative[i]).tolist(),
                    "labels": batch["labels"][i].tolist(),
                    "metadata": dict(metadata[i]),
                }
                for i, sample in enumerate(batch["sample_id"])
            ]
        return rows

    def compute(self, rows: list[dict[str, Any]]) -> Results:
        """Compute every figure; see `classification_results`.

        Raises:
            ValueError: If no label is known, or the rows are not sound.
        """
        table = ScoreTable.from_rows(rows, self.prompts.class_names)
        if (table.labels == -1).all():
            raise ValueError(
                f"none of {len(table.sample_ids)} samples has a known label: there is nothing to "
                "compare the scores with; use `evaluate predict`, or give the data set its labels"
            )
        for name, sources in self.prompts.merge.items():
            table = table.merged(name, sources)
        return classification_results(table, self.protocol)

    def reset(self) -> None:
        """Forget all scored studies; the class prompts stay until the next `prepare`."""
        self._batches = []

    def _protocol(
        self, thresholds_from: str | None, num_resamples: int, seed: int
    ) -> ClassificationProtocol:
        thresholds, rule = None, PUBLISHED_RULE
        if thresholds_from is not None:
            source = Results.from_json(thresholds_from)
            thresholds = {finding.name: finding.threshold for finding in source.findings}
            rule = f"closest_corner_validation (n = {source.num_samples})"
        return ClassificationProtocol(
            name=f"zero_shot/{self.prompts.name}/{self.template}",
            prompt_hash=self.prompts.hash,
            groups=self.prompts.macro_groups(),
            tiers={entry.name: entry.tier for entry in self.prompts.classes},
            thresholds=thresholds,
            threshold_rule=rule,
            num_resamples=num_resamples,
            seed=seed,
        )
