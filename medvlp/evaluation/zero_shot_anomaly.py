"""Mean over several tasks "this disease or normal", HLIP's later figure `anomaly` of brain MRI."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from medvlp.evaluation.classification import ClassificationProtocol, classification_results
from medvlp.evaluation.prompt_evaluation import PromptEvaluation
from medvlp.evaluation.results import Results
from medvlp.evaluation.score_table import ScoreTable
from medvlp.evaluation.zero_shot import pair_probabilities
from medvlp.prompts.prompt_set import PromptSet
from medvlp.types import Tokens

_CHOICE_OF_TWO = {
    "balanced_accuracy": "acc (balanced)",
    "f1_weighted": "f1 (weighted)",
}


class ZeroShotAnomaly(PromptEvaluation):
    """Tell each of several diseases from normal; the macro row is the mean over the diseases.

    Each finding is a task of its own, over the studies that have this disease or none of it and
    are normal; its probability is a softmax over its prompt and that of the reference. All tasks
    share the resamples of patients, so the mean has a paired interval.

    Args:
        prompts: Name of a shipped prompt set, or path of a YAML file.
        tokenizer: The one the text tower was trained with.
        label_names: Names of the columns of `batch["labels"]`, in their order.
        reference: The class of normal studies; it wins ties.
        classes: The diseases.
        template: Which of the set's templates.
        token: Which embedding of a study is scored, where the image tower gives several.
        num_resamples: Bootstrap resamples of patients.
        seed: Of the bootstrap.
    """

    def __init__(
        self,
        prompts: str,
        tokenizer: Callable[[list[str]], Tokens],
        *,
        label_names: Sequence[str],
        reference: str,
        classes: Sequence[str],
        template: str = "study",
        token: int = 0,
        num_resamples: int = 1000,
        seed: int = 0,
    ) -> None:
        self.prompts = PromptSet.load(prompts)
        self.reference, self.classes, self.template = reference, list(classes), template
        if not self.classes or reference in self.classes:
            raise ValueError(
                f"classes are {', '.join(self.classes) or 'none'}, the reference is {reference}: "
                "give at least one class beside the reference"
            )
        names = [reference, *self.classes]
        super().__init__(
            [self.prompts.texts(name, template)[1] for name in names],
            tokenizer,
            label_names=label_names,
            columns=self.prompts.label_columns(label_names, names),
            token=token,
        )
        self.protocol = ClassificationProtocol(
            name=f"zero_shot/{self.prompts.name}/{template}/{reference} or a disease",
            prompt_hash=self.prompts.hash,
            groups={"all": self.classes},
            score_rule="pair",
            num_resamples=num_resamples,
            seed=seed,
        )

    @property
    def class_names(self) -> list[str]:
        """Names of the scores of a row, in their order."""
        return self.classes

    def scores(
        self, cosine: Float[Tensor, "b m"], scale: Float[Tensor, "1"]
    ) -> tuple[Float[Tensor, "b k"], Bool[Tensor, "b k"]]:
        """Return the probability of each disease against the reference, and whether it wins."""
        reference, disease = cosine[:, :1], cosine[:, 1:]
        pairs = torch.stack([reference.expand_as(disease), disease], dim=-1)
        normal, probability = pair_probabilities(pairs, scale).unbind(dim=-1)
        return probability, probability > normal

    def compute(self, rows: list[dict[str, Any]]) -> Results:
        """Compute the figures of each task and their means.

        Raises:
            ValueError: If no label is known, or the rows are not sound.
        """
        self._require_labels(rows)
        labels = np.array([row["labels"] for row in rows]).reshape(len(rows), -1)
        normal, disease = labels[:, :1] == 1, labels[:, 1:]
        # 1: has the disease; 0: normal and not of it; -1: takes no part in this task
        judged = np.where(disease == 1, 1, np.where(normal & (disease == 0), 0, -1))
        relabelled = [row | {"labels": own.tolist()} for row, own in zip(rows, judged, strict=True)]
        table = ScoreTable.from_rows(relabelled, self.classes)
        results = classification_results(table, self.protocol)
        everything = results.macros[0]
        named = {name: everything.figures[key] for name, key in _CHOICE_OF_TWO.items()}
        return replace(results, macros=[replace(everything, figures=everything.figures | named)])
