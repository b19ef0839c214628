"""Paired comparison of two evaluations of the same samples."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from medvlp.evaluation.delong import delong_test
from medvlp.evaluation.results import Figure
from medvlp.evaluation.scored_run import ScoredRun
from medvlp.evaluation.statistics import (
    bootstrap_facts,
    defined_mean,
    figure,
    patient_weights,
    ranking_metrics,
)

METRICS = ("auroc", "ap")

Samples = dict[str, Float[ndarray, "2 r"]]
"""Metric -> its value in both runs, on the data (first) and on every resample."""


@dataclass(frozen=True)
class Pair:
    """One metric of two runs; the difference is the first less the second.

    Attributes:
        first: Of the first run.
        second: Of the second run.
        difference: Its interval is that of the same resamples of patients in both runs.
    """

    first: Figure
    second: Figure
    difference: Figure


@dataclass(frozen=True)
class ComparedFinding:
    """One finding in both runs.

    Attributes:
        name: As both runs call it.
        num_positive: Samples with it among those that count.
        num_known: Samples that count: the label is known, and both runs have a score.
        pairs: By metric.
        delong_p: Of the AUROC; NaN where the test is not defined.
    """

    name: str
    num_positive: int
    num_known: int
    pairs: dict[str, Pair]
    delong_p: float


@dataclass(frozen=True)
class Comparison:
    """What two runs have in common, and where they differ.

    Attributes:
        first: Facts of the first run, see `ScoredRun.facts`.
        second: Facts of the second run.
        num_samples: Scored by both.
        num_patients: The unit that the bootstrap resamples.
        bootstrap: Unit, resamples, level and seed of the intervals.
        findings: Those that both runs scored.
        macro: Means over the findings, by metric.
        skipped: Finding -> why it has no figures.
        notes: What a reader should know besides.
    """

    first: dict[str, Any]
    second: dict[str, Any]
    num_samples: int
    num_patients: int
    bootstrap: dict[str, Any]
    findings: list[ComparedFinding]
    macro: dict[str, Pair]
    skipped: dict[str, str]
    notes: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Return plain containers."""
        return asdict(self)


def compare_runs(
    first: ScoredRun, second: ScoredRun, *, num_resamples: int = 1000, seed: int = 0
) -> Comparison:
    """Compare two runs, finding by finding and in the mean, on the same resamples of patients.

    Args:
        first: What is hoped to be better.
        second: What it is compared with.
        num_resamples: Of the patients.
        seed: Of the resampling.

    Raises:
        ValueError: If the runs scored other samples, patients or labels, or no common finding.
    """
    second = second.in_order_of(first)
    names = [name for name in first.class_names if name in second.class_names]
    labels = _common_labels(first, second, names)
    resampled = patient_weights(first.patient_ids, num_resamples, seed)
    weights = np.vstack([np.ones(len(first.patient_ids)), resampled])
    findings, means, skipped = _compare_findings((first, second), names, labels, weights)
    return Comparison(
        first=first.facts,
        second=second.facts,
        num_samples=len(first.sample_ids),
        num_patients=len(set(first.patient_ids)),
        bootstrap=bootstrap_facts(num_resamples, seed),
        findings=findings,
        macro=means,
        skipped=skipped,
        notes=_notes(first, second, names, findings),
    )


def _compare_findings(
    runs: tuple[ScoredRun, ScoredRun],
    names: Sequence[str],
    labels: Int[ndarray, "n k"],
    weights: Float[ndarray, "r n"],
) -> tuple[list[ComparedFinding], dict[str, Pair], dict[str, str]]:
    """Return every finding, the means over them, and why others have no figures."""
    findings: list[ComparedFinding] = []
    samples: list[Samples] = []
    skipped: dict[str, str] = {}
    for k, name in enumerate(names):
        scores = np.stack([run.scores[:, run.class_names.index(name)] for run in runs])
        counts = (labels[:, k] >= 0) & np.isfinite(scores).all(axis=0)
        truth = labels[counts, k] == 1
        if min(truth.sum(), (~truth).sum()) == 0:
            skipped[name] = f"{truth.sum()} positive of {truth.size} samples"
            continue
        samples.append(_samples(truth, scores[:, counts], weights[:, counts]))
        findings.append(_finding(name, truth, scores[:, counts], samples[-1]))
    if not findings:
        raise ValueError(
            f"{' and '.join(str(run.folder) for run in runs)} have no finding in common of which "
            "samples with and without it were scored: "
            f"{' against '.join(', '.join(run.class_names) for run in runs)}"
        )
    means = {
        metric: _pair(
            np.stack([defined_mean([values[metric][run] for values in samples]) for run in (0, 1)])
        )
        for metric in METRICS
    }
    return findings, means, skipped


def _common_labels(first: ScoredRun, second: ScoredRun, names: Sequence[str]) -> ndarray:
    labels, others = (
        run.labels[:, [run.class_names.index(name) for name in names]] for run in (first, second)
    )
    differing = [name for k, name in enumerate(names) if (labels[:, k] != others[:, k]).any()]
    if differing:
        raise ValueError(
            f"{first.folder} and {second.folder} have other labels of {', '.join(differing)}; "
            "evaluate both on the same data"
        )
    return labels


def _samples(
    truth: Bool[ndarray, " n"], scores: Float[ndarray, "2 n"], weights: Float[ndarray, "r n"]
) -> Samples:
    both = [ranking_metrics(truth, each, weights) for each in scores]
    return {metric: np.stack([run[m] for run in both]) for m, metric in enumerate(METRICS)}


def _finding(
    name: str, truth: Bool[ndarray, " n"], scores: Float[ndarray, "2 n"], samples: Samples
) -> ComparedFinding:
    enough = min(truth.sum(), (~truth).sum()) > 1
    return ComparedFinding(
        name=name,
        num_positive=int(truth.sum()),
        num_known=truth.size,
        pairs={metric: _pair(values) for metric, values in samples.items()},
        delong_p=delong_test(truth, scores[0], scores[1]).p if enough else float("nan"),
    )


def _pair(values: Float[ndarray, "2 r"]) -> Pair:
    return Pair(figure(values[0]), figure(values[1]), figure(values[0] - values[1]))


def _notes(
    first: ScoredRun,
    second: ScoredRun,
    names: Sequence[str],
    findings: Sequence[ComparedFinding],
) -> list[str]:
    notes = []
    alone = [name for run in (first, second) for name in run.class_names if name not in names]
    if alone:
        notes.append(f"{len(alone)} findings are in one run only: {', '.join(alone)}")
    total = len(first.sample_ids)
    short = [f"{f.name} ({total - f.num_known})" for f in findings if f.num_known < total]
    if short:
        notes.append(
            f"samples without a label, or without a score in either run, do not count: "
            f"{', '.join(short)}"
        )
    for fact, what in (("prompt_hash", "prompts"), ("recipe_hash", "preprocessing")):
        if first.facts[fact] != second.facts[fact]:
            notes.append(f"the runs differ in their {what}")
    if total > len(set(first.patient_ids)):
        notes.append("DeLong's test takes samples of one patient as independent; the bootstrap not")
    return notes
