"""Linear probe and few-shot evaluation: what a linear classifier makes of frozen features."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from medvlp.evaluation.classification import (
    ClassificationProtocol,
    all_weights,
    classification_results,
)
from medvlp.evaluation.embedded_set import EmbeddedSet
from medvlp.evaluation.probe_draws import Budget, Validation, draw
from medvlp.evaluation.probe_fit import MAX_ITERATIONS, Labelled, fit_probe
from medvlp.evaluation.probe_problems import Problem, Splits, Task, problems_of, task_of, usable
from medvlp.evaluation.results import Figure, Macro, Results
from medvlp.evaluation.score_table import ScoreTable
from medvlp.evaluation.statistics import (
    calibration_metrics,
    choice_metrics,
    confusion_metrics,
    defined_mean,
    interval,
    ranking_metrics,
    skill,
)

_LOG = logging.getLogger(__name__)
_NUM_BINS = 10


@dataclass(frozen=True)
class ProbePlan:
    """How features are probed.

    Attributes:
        task: See `Task`; None takes "choice" if there are several labels and exactly one is true
            of every sample, else "findings".
        fractions: Shares of the training samples beside the whole.
        shots: Samples of each class; of present and absent, for findings.
        draws: Training sets that are drawn of each share or number of shots.
        validation: See `Validation`.
        num_resamples: Bootstrap resamples of patients.
        seed: Of draws and bootstrap.
    """

    task: Task | None = None
    fractions: Sequence[float] = (0.01, 0.1)
    shots: Sequence[int] = (1, 2, 4, 8, 16)
    draws: int = 5
    validation: Validation = "scarce"
    num_resamples: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.draws, self.num_resamples) < 1:
            raise ValueError(
                f"draws are {self.draws} and resamples {self.num_resamples}, expected at least 1"
            )

    def budgets(self) -> list[Budget]:
        """List the whole, then what is less."""
        shares = [Budget.of_fraction(one) for one in sorted(set(self.fractions)) if one != 1]
        few = [Budget.of_shots(one) for one in sorted(set(self.shots))]
        return [Budget.of_fraction(1.0), *shares, *few]

    @property
    def rule(self) -> str:
        """Name how decisions and the L2 strength are made."""
        return f"most probable class; L2 strength by least log loss on {self.validation} validation"


class _Scoring(NamedTuple):
    """How tables of scores are measured.

    Attributes:
        ranked: Labels whose figures are averaged.
        weights: Of the test samples themselves, then of every resample.
        is_choice: Whether one probe chooses among all labels.
        seed: Of the resampling of draws.
    """

    ranked: list[str]
    weights: Float[ndarray, "r n"]
    is_choice: bool
    seed: int


class _Outcome(NamedTuple):
    """Scores of all test samples for one training set, and what that was."""

    scores: Float[ndarray, "n k"]
    num_train: float
    strength: float
    num_unconverged: int


def probe(splits: Splits, plan: ProbePlan, *, name: str, note: str = "") -> Results:
    """Fit on "train", choose the L2 strength on "val", measure on "test".

    The rows of `Results.macros` are the budgets, "all" first: means over labels and draws. Their
    intervals resample test patients and draws together; `draw_sd` is the spread of the accuracy
    over draws alone. Findings and predictions are those of the whole training split.

    Args:
        splits: Embedded samples.
        plan: How.
        name: Of the protocol; the task is added.
        note: Where the splits come from; goes into the rule.

    Raises:
        ValueError: If no label can be learnt, or a split has no sample.
    """
    task = plan.task or task_of(splits)
    splits, left_out = usable(splits, task)
    problems, skipped = problems_of(splits, task)
    test = splits["test"]
    protocol = _protocol(test, problems, plan, f"{name}/{task}", note)
    ranked, weights = list(protocol.groups["all"]), all_weights(test.patient_ids, protocol)
    scoring = _Scoring(ranked, weights, task == "choice", plan.seed)
    macros: list[Macro] = []
    unconverged, whole = 0, None
    for budget in plan.budgets():
        found, tables = _draws(splits, problems, budget, plan)
        macros.append(_macro(budget, found, tables, scoring))
        unconverged += sum(one.num_unconverged for one in found)
        whole = tables[0] if budget.is_all else whole
    assert whole is not None  # the first budget
    _warn_of(unconverged)
    results = classification_results(whole.columns(ranked), protocol)
    return replace(
        results,
        macros=macros,
        left_out=left_out,
        skipped=skipped | results.skipped,
        predictions=whole.predictions(),
    )


def _protocol(
    test: EmbeddedSet, problems: Sequence[Problem], plan: ProbePlan, name: str, note: str
) -> ClassificationProtocol:
    names = [test.label_names[k] for one in problems for k in one.columns]
    ranked = names[1:] if len(names) == 2 and len(problems) == 1 else names  # of two one suffices
    return ClassificationProtocol(
        name=name,
        prompt_hash="",
        groups={"all": ranked},
        thresholds=dict.fromkeys(names, 0.5),
        threshold_rule="; ".join(filter(None, (plan.rule, note))),
        score_rule="linear_probe",
        num_resamples=plan.num_resamples,
        seed=plan.seed,
    )


def _draws(
    splits: Splits, problems: Sequence[Problem], budget: Budget, plan: ProbePlan
) -> tuple[list[_Outcome], list[ScoreTable]]:
    """Fit and score on every training set of a budget."""
    draws = range(1 if budget.is_all else plan.draws)
    found = [_fit(splits, problems, budget, plan, number) for number in draws]
    return found, [_table(splits["test"], problems, one.scores) for one in found]


def _warn_of(unconverged: int) -> None:
    if unconverged:
        _LOG.warning("%d fits ended after %d iterations", unconverged, MAX_ITERATIONS)


def _fit(
    splits: Splits, problems: Sequence[Problem], budget: Budget, plan: ProbePlan, number: int
) -> _Outcome:
    scores, sizes, strengths, unconverged = [], [], [], 0
    for k, problem in enumerate(problems):
        train, validation = (
            _part(splits[split], problem.classes[split], wanted, (plan.seed, number, k, order))
            for order, (split, wanted) in enumerate(
                {"train": budget, "val": budget.for_validation(plan.validation)}.items()
            )
        )
        fit = fit_probe(train, validation, splits["test"].features, problem.num_classes)
        is_choice = len(problem.columns) > 1
        scores.append(fit.probabilities if is_choice else fit.probabilities[:, 1:])
        sizes.append(len(train.classes))
        strengths.append(fit.strength)
        unconverged += not fit.converged
    size, strength = float(np.mean(sizes)), float(np.median(strengths))
    return _Outcome(np.concatenate(scores, axis=1), size, strength, unconverged)


def _part(
    one: EmbeddedSet, classes: Int[ndarray, " n"], wanted: Budget, seed: tuple[int, ...]
) -> Labelled:
    rows = draw(classes, wanted, seed)
    return Labelled(one.features[rows], classes[rows])


def _table(
    test: EmbeddedSet, problems: Sequence[Problem], scores: Float[ndarray, "n k"]
) -> ScoreTable:
    columns = [k for one in problems for k in one.columns]
    if len(problems[0].columns) > 1:
        decisions = np.eye(len(columns), dtype=bool)[scores.argmax(axis=1)]
    else:
        decisions = scores > 0.5
    return ScoreTable(
        class_names=[test.label_names[k] for k in columns],
        sample_ids=test.sample_ids,
        patient_ids=test.patient_ids,
        scores=scores,
        decisions=decisions,
        labels=test.labels[:, columns],
        metadata=test.metadata,
        recipe_hash=test.recipe_hash,
        study_ids=test.sample_ids,
    )


def _macro(
    budget: Budget, found: Sequence[_Outcome], tables: Sequence[ScoreTable], scoring: _Scoring
) -> Macro:
    values = [_values(table, scoring) for table in tables]
    generator = np.random.default_rng((scoring.seed, 1))
    again = generator.integers(len(tables), size=(len(tables), len(scoring.weights)))
    figures = {}
    for metric in values[0]:
        stacked = np.stack([one[metric] for one in values])
        over_draws = defined_mean([*np.take_along_axis(stacked, again, axis=0)[:, 1:]])
        figures[metric] = Figure(float(defined_mean([*stacked])[0]), *interval(over_draws))
    accuracy = [float(one["accuracy"][0]) for one in values]
    spread = float(np.std(accuracy, ddof=1)) if len(accuracy) > 1 else float("nan")
    figures |= {
        "draw_sd": Figure(spread),
        "num_train": Figure(float(np.mean([one.num_train for one in found]))),
        "strength": Figure(float(np.median([one.strength for one in found]))),
    }
    return Macro(budget.name, scoring.ranked, figures)


def _values(table: ScoreTable, scoring: _Scoring) -> dict[str, Float[ndarray, " r"]]:
    """Compute every metric for the sample and all resamples: means over labels."""
    each = []
    for k in (table.class_names.index(name) for name in scoring.ranked):
        known = table.labels[:, k] >= 0
        labels, scores = table.labels[known, k] == 1, table.scores[known, k]
        part = scoring.weights[:, known]
        auroc, ap = ranking_metrics(labels, scores, part)
        ece, brier = calibration_metrics(labels, scores, part, _NUM_BINS)
        with np.errstate(invalid="ignore"):
            prevalence = part @ labels / part.sum(axis=1)
        yes_no = confusion_metrics(labels, table.decisions[known, k], part)
        ranks = {"auroc": auroc, "ap": ap, "ap_skill": skill(ap, prevalence)}
        each.append(yes_no | ranks | {"brier": brier, "ece": ece})
    values = {metric: defined_mean([one[metric] for one in each]) for metric in each[0]}
    if scoring.is_choice:
        truth, choice = table.labels.argmax(axis=1), table.decisions.argmax(axis=1)
        values |= choice_metrics(truth, choice, scoring.weights, len(table.class_names))
    kept = ("accuracy", "balanced_accuracy", "f1_weighted", "auroc", "ap", "ap_skill")
    return {name: values[name] for name in (*kept, "brier", "ece")}
