"""Figures of a table of scores: per finding, macro rows, subgroups, all from one bootstrap."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray
from sklearn.metrics import roc_curve

from medvlp.evaluation.results import Curve, Figure, Finding, Macro, Results, Subgroup
from medvlp.evaluation.score_table import ScoreTable
from medvlp.evaluation.statistics import (
    bootstrap_facts,
    calibration_metrics,
    closest_corner_threshold,
    confusion_metrics,
    defined_mean,
    figure,
    patient_weights,
    ranking_metrics,
    score_bins,
    skill,
)

PUBLISHED_RULE = "closest_corner_same_set"
"""HLIP tunes each threshold on the data it then reports; kept under this name."""

NUM_BINS = 10
MAX_CURVE_POINTS = 200
MIN_SUBGROUP = 10

Samples = dict[str, Float[ndarray, " r"]]
"""Metric -> its value on the data (first) and on every resample."""


@dataclass(frozen=True)
class ClassificationProtocol:
    """How a table of scores becomes results.

    Attributes:
        name: Protocol name for the result file.
        prompt_hash: Hash of the prompt set; empty without prompts.
        tiers: Class -> difficulty tier.
        groups: Macro row -> classes; "all" first.
        thresholds: Class -> operating point tuned elsewhere; without it the published rule.
        threshold_rule: Name of the rule that gave the thresholds.
        score_rule: How scores were made. Cosines are no probabilities: of them, calibration and
            the unstarred figures are undefined.
        num_resamples: Bootstrap resamples of patients.
        seed: Of the resampling.
    """

    name: str
    prompt_hash: str
    groups: Mapping[str, Sequence[str]]
    tiers: Mapping[str, str] = field(default_factory=dict)
    thresholds: Mapping[str, float] | None = None
    threshold_rule: str = PUBLISHED_RULE
    score_rule: str = "pair"
    num_resamples: int = 1000
    seed: int = 0


def classification_results(table: ScoreTable, protocol: ClassificationProtocol) -> Results:
    """Compute every figure with its patient-level bootstrap interval.

    Classes with one label value only, or none known, are skipped and listed by name. A sample
    whose score is NaN takes no part in the figures of that class. Macro values are means over the
    scored findings, resample by resample, so they are paired.
    Thresholds stay fixed under resampling: intervals do not cover the choice of threshold.
    """
    weights = all_weights(table.patient_ids, protocol)
    skipped = _degenerate(table)
    findings: list[Finding] = []
    samples: dict[str, Samples] = {}
    for k, name in enumerate(table.class_names):
        if name not in skipped:
            finding, samples[name] = _finding(table, k, weights, protocol)
            findings.append(finding)
    worst = min(findings, key=lambda f: f.figures["auroc"].value, default=None)
    return Results(
        protocol=protocol.name,
        num_samples=len(table.sample_ids),
        num_patients=len(set(table.patient_ids)),
        prompt_hash=protocol.prompt_hash,
        recipe_hash=table.recipe_hash,
        threshold_rule=protocol.threshold_rule,
        bootstrap=bootstrap_facts(protocol.num_resamples, protocol.seed),
        findings=findings,
        macros=[_macro(name, members, samples) for name, members in protocol.groups.items()],
        worst_finding=worst.name if worst else "",
        subgroups=_subgroups(table, weights),
        skipped=skipped,
        duplicates_dropped=table.duplicates_dropped,
        score_rule=protocol.score_rule,
        predictions=table.predictions(),
    )


def all_weights(
    patient_ids: Sequence[str], protocol: ClassificationProtocol
) -> Float[ndarray, "r n"]:
    """Return ones for the data themselves, then a row of weights for every resample."""
    if not patient_ids:  # nothing takes part: every figure is undefined
        return np.ones((1, 0))
    resampled = patient_weights(patient_ids, protocol.num_resamples, protocol.seed)
    return np.vstack([np.ones(len(patient_ids)), resampled])


def known_rows(table: ScoreTable, k: int) -> Bool[ndarray, " n"]:
    """Tell which samples take part in the figures of a class: label known, score not NaN."""
    return (table.labels[:, k] >= 0) & ~np.isnan(table.scores[:, k])


def _degenerate(table: ScoreTable) -> dict[str, str]:
    skipped = {}
    for k, name in enumerate(table.class_names):
        values = set(table.labels[known_rows(table, k), k].tolist())
        if not values:
            labelled = (table.labels[:, k] >= 0).any()
            skipped[name] = "no labelled sample has a score" if labelled else "no known label"
        elif len(values) == 1:
            skipped[name] = "only positives" if values == {1} else "no positives"
    return skipped


def _finding(
    table: ScoreTable, k: int, weights: Float[ndarray, "r n"], protocol: ClassificationProtocol
) -> tuple[Finding, Samples]:
    name = table.class_names[k]
    known = known_rows(table, k)
    labels, scores = table.labels[known, k] == 1, table.scores[known, k]
    if protocol.thresholds is None:
        threshold = closest_corner_threshold(labels, scores)
    elif name in protocol.thresholds:
        threshold = protocol.thresholds[name]
    else:
        raise ValueError(
            f"no threshold for {name} among those given ({', '.join(protocol.thresholds)}); "
            "take them from a split in which the finding occurs"
        )
    samples = _samples(labels, scores, weights[:, known])
    argmax = confusion_metrics(labels, table.decisions[known, k], weights[:, known])
    tuned = confusion_metrics(labels, scores > threshold, weights[:, known])
    samples |= {key: argmax[metric] for key, metric in _ARGMAX_KEYS.items()}
    samples |= {key: tuned[metric] for key, metric in _TUNED_KEYS.items()}
    probable = protocol.score_rule != "cosine"
    if not probable:
        undefined = np.full(len(weights), np.nan)
        samples |= dict.fromkeys(("brier", "ece", *_ARGMAX_KEYS), undefined)
    finding = Finding(
        name=name,
        tier=protocol.tiers.get(name, ""),
        num_positive=int(labels.sum()),
        num_known=int(known.sum()),
        threshold=threshold,
        figures={metric: figure(values) for metric, values in samples.items()},
        roc=_roc(labels, scores),
        reliability=_reliability(labels, scores) if probable else Curve([], []),
    )
    return finding, samples


# Key -> metric. Spelt as the published result files spell them.
_ARGMAX_KEYS = {
    "acc (balanced)": "balanced_accuracy",
    "f1 (weighted)": "f1_weighted",
    "recall": "recall",
    "precision": "precision",
}
_TUNED_KEYS = {
    "* acc (balanced)": "accuracy",  # the published key says balanced; it is plain accuracy
    "* f1 (weighted)": "f1_weighted",
    "* recall": "recall",
    "* precision": "precision",
}


def _samples(
    labels: Bool[ndarray, " n"], scores: Float[ndarray, " n"], weights: Float[ndarray, "r n"]
) -> Samples:
    auroc, ap = ranking_metrics(labels, scores, weights)
    with np.errstate(invalid="ignore"):
        prevalence = weights @ labels / weights.sum(axis=1)
    ece, brier = calibration_metrics(labels, scores, weights, NUM_BINS)
    return {
        "auroc": auroc,
        "ap": ap,
        "ap_skill": skill(ap, prevalence),
        "brier": brier,
        "ece": ece,
    }


def _macro(name: str, members: Sequence[str], samples: Mapping[str, Samples]) -> Macro:
    scored = [member for member in members if member in samples]
    if not scored:
        undefined = Figure(float("nan"))
        metrics = ["auroc", "ap", "ap_skill", "brier", "ece", *_ARGMAX_KEYS, *_TUNED_KEYS]
        return Macro(name, [], dict.fromkeys(metrics, undefined))
    figures = {
        metric: figure(defined_mean([samples[member][metric] for member in scored]))
        for metric in samples[scored[0]]
    }
    return Macro(name, scored, figures)


def _roc(labels: Bool[ndarray, " n"], scores: Float[ndarray, " n"]) -> Curve:
    false_positive, true_positive, _ = roc_curve(labels, scores)
    if len(false_positive) > MAX_CURVE_POINTS:  # enough for a plot; figures use all samples
        keep = np.linspace(0, len(false_positive) - 1, MAX_CURVE_POINTS).round().astype(int)
        false_positive, true_positive = false_positive[keep], true_positive[keep]
    return Curve(false_positive.round(6).tolist(), true_positive.round(6).tolist())


def _reliability(labels: Bool[ndarray, " n"], scores: Float[ndarray, " n"]) -> Curve:
    bins = score_bins(scores, NUM_BINS)
    used = np.unique(bins)
    return Curve(
        x=[float(scores[bins == b].mean()) for b in used],
        y=[float(labels[bins == b].mean()) for b in used],
        count=[int((bins == b).sum()) for b in used],
    )


def _subgroups(table: ScoreTable, weights: Float[ndarray, "r n"]) -> list[Subgroup]:
    attributes = sorted({key for row in table.metadata for key in row})
    groups = []
    for attribute in attributes:
        values = np.array([row.get(attribute, "") for row in table.metadata])
        if attribute == "age":
            values = np.array([age_band(value) for value in values])
        groups += [
            _subgroup(table, weights, attribute, str(value), values == value)
            for value in np.unique(values[values != ""])
            if (values == value).sum() >= MIN_SUBGROUP
        ]
    return groups


def age_band(years: str) -> str:
    """Name the band of an age in years; empty if it is not a number.

    >>> age_band("47"), age_band("85"), age_band("")
    ('40-59', '80+', '')
    """
    if not years.isdigit():
        return ""
    edges = [(18, "0-17"), (40, "18-39"), (60, "40-59"), (80, "60-79")]
    return next((name for end, name in edges if int(years) < end), "80+")


def _subgroup(
    table: ScoreTable,
    weights: Float[ndarray, "r n"],
    attribute: str,
    value: str,
    member: Bool[ndarray, " n"],
) -> Subgroup:
    samples: dict[str, Samples] = {}
    for k, name in enumerate(table.class_names):
        known = member & known_rows(table, k)
        labels = table.labels[known, k] == 1
        if 0 < labels.sum() < labels.size:
            auroc, ap = ranking_metrics(labels, table.scores[known, k], weights[:, known])
            samples[name] = {"auroc": auroc, "ap": ap}
    figures = {metric: Figure(float("nan")) for metric in ("auroc", "ap")}
    if samples:
        figures = {
            metric: figure(defined_mean([values[metric] for values in samples.values()]))
            for metric in figures
        }
    return Subgroup(attribute, value, int(member.sum()), len(samples), figures)
