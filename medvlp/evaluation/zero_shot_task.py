"""Zero-shot choice among several classes by one prompt each, as HLIP evaluates brain MRI."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from torch import Tensor
from torch.nn import functional as F

from medvlp.evaluation.classification import (
    ClassificationProtocol,
    all_weights,
    classification_results,
)
from medvlp.evaluation.prompt_evaluation import PromptEvaluation
from medvlp.evaluation.published import study_words
from medvlp.evaluation.results import Results
from medvlp.evaluation.score_table import ScoreTable
from medvlp.evaluation.statistics import choice_metrics, figure
from medvlp.prompts.prompt_set import PromptSet
from medvlp.types import Tokens


class ZeroShotTask(PromptEvaluation):
    """Choose one of several classes by a softmax over their prompts at the learnt scale.

    Studies of which not exactly one of the task's classes is known to be true take no part; they
    are counted by reason in `Results.left_out`. The findings are one class against the rest. Of
    two classes the first is the reference, and the second the only finding. The macro row "all"
    has besides `balanced_accuracy`, `f1_weighted` and `accuracy` of the choice.

    Args:
        prompts: Name of a shipped prompt set, or path of a YAML file.
        tokenizer: The one the text tower was trained with.
        label_names: Names of the columns of `batch["labels"]`, in their order.
        classes: Those of the prompt set to choose among, at least two; the first wins ties.
        template: Which of the set's templates.
        token: Which embedding of a study is scored, where the image tower gives several.
        compat: "published" takes studies whose id contains one of the words by which the
            published evaluation of Pub-Brain-5 chooses them, rather than by label.
        num_resamples: Bootstrap resamples of patients.
        seed: Of the bootstrap.
    """

    def __init__(
        self,
        prompts: str,
        tokenizer: Callable[[list[str]], Tokens],
        *,
        label_names: Sequence[str],
        classes: Sequence[str],
        template: str = "study",
        token: int = 0,
        compat: Literal["published"] | None = None,
        num_resamples: int = 1000,
        seed: int = 0,
    ) -> None:
        self.prompts = PromptSet.load(prompts)
        self.classes = list(classes)
        self.template, self.compat = template, compat
        if len(set(self.classes)) < max(2, len(self.classes)):
            raise ValueError(
                f"classes are {', '.join(self.classes)}: a task chooses among at least two "
                "different ones"
            )
        texts = [self.prompts.texts(name, template)[1] for name in self.classes]
        columns = self.prompts.label_columns(label_names, self.classes)
        super().__init__(texts, tokenizer, label_names=label_names, columns=columns, token=token)
        self._words = study_words(self.classes) if compat == "published" else None
        chosen = "" if compat is None else f" ({compat} choice of studies)"
        self.protocol = ClassificationProtocol(
            name=f"zero_shot/{self.prompts.name}/{template}/{' | '.join(self.classes)}{chosen}",
            prompt_hash=self.prompts.hash,
            groups={"all": self._findings},
            score_rule="choice",
            num_resamples=num_resamples,
            seed=seed,
        )

    @property
    def class_names(self) -> list[str]:
        """Names of the scores of a row, in their order."""
        return self.classes

    @property
    def _findings(self) -> list[str]:
        return self.classes[1:] if len(self.classes) == 2 else self.classes

    def scores(
        self, cosine: Float[Tensor, "b k"], scale: Float[Tensor, "1"]
    ) -> tuple[Float[Tensor, "b k"], Bool[Tensor, "b k"]]:
        """Return the probability of each class, and which is the most probable."""
        probability = (cosine * scale).softmax(dim=-1)
        return probability, F.one_hot(probability.argmax(dim=-1), len(self.classes)).bool()

    def compute(self, rows: list[dict[str, Any]]) -> Results:
        """Compute figures one against the rest and of the choice.

        Raises:
            ValueError: If no label is known, or the rows are not sound.
        """
        self._require_labels(rows)
        table = ScoreTable.from_rows(rows, self.classes)
        reasons = [self._left_out(*row) for row in zip(table.study_ids, table.labels, strict=True)]
        table = table.where(np.array([not reason for reason in reasons]))
        truth = table.labels.argmax(axis=1)
        choice = table.decisions.argmax(axis=1)
        results = classification_results(table.columns(self._findings), self.protocol)
        weights = all_weights(table.patient_ids, self.protocol)
        metrics = choice_metrics(truth, choice, weights, len(self.classes))
        everything = results.macros[0]
        figures = everything.figures | {name: figure(values) for name, values in metrics.items()}
        return replace(
            results,
            macros=[replace(everything, figures=figures)],
            left_out=dict(Counter(reason for reason in reasons if reason)),
            predictions=table.predictions(),
        )

    def _left_out(self, study_id: str, labels: Int[ndarray, " k"]) -> str:
        """Say why a study takes no part; empty if it does."""
        if self._words is not None and not any(word in study_id for word in self._words):
            return "not chosen by its path"
        if (labels == -1).all():
            return "of unknown class"
        positive = int((labels == 1).sum())
        if positive > 1:
            return "of several of these classes"
        return "" if positive else "of none of these classes"
