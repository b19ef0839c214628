"""Zero-shot classification of many findings, each on its own, as HLIP evaluates chest CT."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from medvlp.evaluation.classification import (
    PUBLISHED_RULE,
    ClassificationProtocol,
    classification_results,
)
from medvlp.evaluation.prompt_evaluation import PromptEvaluation
from medvlp.evaluation.results import Results
from medvlp.evaluation.score_table import ScoreTable
from medvlp.prompts.prompt_set import PromptSet
from medvlp.types import Tokens

ScoreRule = Literal["pair", "cosine"]


def pair_probabilities(
    cosine: Float[Tensor, "b k 2"], scale: Float[Tensor, "..."] | float
) -> Float[Tensor, "b k 2"]:
    """Softmax over the negative and the positive prompt of each class, at the learnt scale.

    >>> pair_probabilities(torch.tensor([[[0.2, 0.2]]]), 40.0).tolist()
    [[[0.5, 0.5]]]
    """
    return (cosine * scale).softmax(dim=-1)


class ZeroShotClassification(PromptEvaluation):
    """Score every finding by its prompts; an `Evaluation`.

    The unstarred figures decide by the more probable prompt, a tie being negative; the starred
    ones by a threshold (HLIP's published evaluation). Under `score: cosine` there is nothing to
    decide between, so only the ranking and the starred figures are defined.

    Args:
        prompts: Name of a shipped prompt set, or path of a YAML file.
        tokenizer: The one the text tower was trained with.
        label_names: Names of the columns of `batch["labels"]`, in their order; may hold more
            than the prompt set scores.
        template: Which of the set's templates.
        score: "pair" is the probability of the positive prompt against the negative one, at the
            learnt scale (HLIP, first release); "cosine" the similarity to the positive prompt
            alone (its later evaluations).
        token: Which embedding of a study is scored, where the image tower gives several.
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
        score: ScoreRule = "pair",
        token: int = 0,
        thresholds_from: str | None = None,
        num_resamples: int = 1000,
        seed: int = 0,
    ) -> None:
        self.prompts = PromptSet.load(prompts)
        self.template, self.score = template, score
        names = self.prompts.class_names
        columns = self.prompts.label_columns(label_names, names)
        if score == "pair":
            texts = [text for pair in self.prompts.pairs(template) for text in pair]
        else:
            texts = [self.prompts.texts(name, template)[1] for name in names]
        super().__init__(texts, tokenizer, label_names=label_names, columns=columns, token=token)
        self.protocol = self._protocol(thresholds_from, num_resamples, seed)

    @property
    def class_names(self) -> list[str]:
        """Names of the scores of a row, in their order."""
        return self.prompts.class_names

    def scores(
        self, cosine: Float[Tensor, "b m"], scale: Float[Tensor, "1"]
    ) -> tuple[Float[Tensor, "b k"], Bool[Tensor, "b k"]]:
        """Apply the score rule; a cosine decides nothing, its decisions are all negative."""
        if self.score == "cosine":
            return cosine, torch.zeros_like(cosine, dtype=torch.bool)
        pairs = cosine.unflatten(1, (len(self._columns), 2))
        negative, positive = pair_probabilities(pairs, scale).unbind(dim=-1)
        return positive, positive > negative

    def compute(self, rows: list[dict[str, Any]]) -> Results:
        """Compute every figure; see `classification_results`.

        Raises:
            ValueError: If no label is known, or the rows are not sound.
        """
        self._require_labels(rows)
        table = ScoreTable.from_rows(rows, self.prompts.class_names)
        for name, sources in self.prompts.merge.items():
            table = table.merged(name, sources)
        return classification_results(table, self.protocol)

    def _protocol(
        self, thresholds_from: str | None, num_resamples: int, seed: int
    ) -> ClassificationProtocol:
        thresholds, rule = None, PUBLISHED_RULE
        if thresholds_from is not None:
            source = Results.from_json(thresholds_from)
            if source.score_rule != self.score:
                raise ValueError(
                    f"{thresholds_from} holds thresholds of scores by the rule "
                    f"{source.score_rule!r}, this evaluation scores by {self.score!r}; validate "
                    "with the same rule first"
                )
            thresholds = {finding.name: finding.threshold for finding in source.findings}
            rule = f"closest_corner_validation (n = {source.num_samples})"
        return ClassificationProtocol(
            name=f"zero_shot/{self.prompts.name}/{self.template}",
            prompt_hash=self.prompts.hash,
            groups=self.prompts.macro_groups(),
            tiers={entry.name: entry.tier for entry in self.prompts.classes},
            thresholds=thresholds,
            threshold_rule=rule,
            score_rule=self.score,
            num_resamples=num_resamples,
            seed=seed,
        )
