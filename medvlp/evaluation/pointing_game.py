"""The pointing game: does the maximum of an activation map lie on the finding it is asked for?"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from medvlp.evaluation.results import Figure, Macro, Results
from medvlp.evaluation.statistics import bootstrap_facts, figure, patient_weights

METRICS = ("hit_rate", "chance", "times_chance", "other_maps", "times_other_maps")


class Pointing(NamedTuple):
    """One finding that is present in one study.

    Attributes:
        sample_id: Of the study, or of one scan of it.
        patient_id: Statistics resample patients.
        finding: What the map was asked for.
        hit: Whether the map's maximum lies on the finding.
        chance: Share of the finding in the field of the map: how often a random place hits.
        other_maps: How often the maps of all other findings hit this one: what a map gets that
            only knows where findings tend to be.
    """

    sample_id: str
    patient_id: str
    finding: str
    hit: bool
    chance: float
    other_maps: float


def pointing_results(
    points: Sequence[Pointing],
    groups: Mapping[str, Sequence[str]],
    *,
    facts: Mapping[str, Any],
    num_resamples: int = 1000,
    seed: int = 0,
) -> Results:
    """Average over all pairs of a study and a finding, with patient-level intervals.

    The rows are the groups, then the findings. `times_chance` is the hit rate in units of chance,
    `times_other_maps` in units of the hit rate of the maps of other findings.

    Args:
        points: Over all studies.
        groups: Name of a row to its findings; pairs count alike.
        facts: protocol, prompt_hash and recipe_hash of the result.
        num_resamples: Bootstrap resamples of patients.
        seed: Of the bootstrap.

    Raises:
        ValueError: If there is no pair.
    """
    weights = _weights(points, num_resamples, seed)
    names = list(dict.fromkeys(point.finding for point in points))
    macros = _macros(points, names, {**groups, **{name: [name] for name in names}}, weights)
    return Results(
        protocol=facts["protocol"],
        num_samples=len({point.sample_id for point in points}),
        num_patients=len({point.patient_id for point in points}),
        prompt_hash=facts["prompt_hash"],
        recipe_hash=facts["recipe_hash"],
        threshold_rule="none",
        bootstrap=bootstrap_facts(num_resamples, seed),
        macros=macros,
        worst_finding=_worst(macros[-len(names) :]),
        score_rule="pointing",
        predictions=[point._asdict() for point in points],
    )


def _weights(points: Sequence[Pointing], num_resamples: int, seed: int) -> np.ndarray:
    """Return ones for the pairs themselves, then their weights in every resample."""
    if not points:
        raise ValueError(
            "no study has a finding with a mask and a prompt: there is nothing to point at"
        )
    drawn = patient_weights([point.patient_id for point in points], num_resamples, seed)
    return np.concatenate([np.ones((1, len(points))), drawn])


def _macros(
    points: Sequence[Pointing],
    names: Sequence[str],
    rows: Mapping[str, Sequence[str]],
    weights: np.ndarray,
) -> list[Macro]:
    """Average over the pairs of each row that has any."""
    macros = []
    for row, members in rows.items():
        chosen = np.array([point.finding in members for point in points])
        if chosen.any():
            present = [name for name in names if name in members]
            macros.append(Macro(row, present, _figures(points, weights, chosen)))
    return macros


def markdown_table(results: Results) -> str:
    """Write the rows as a Markdown table."""
    lines = [
        "| | findings | hit rate | 95 % interval | chance | times chance | 95 % interval "
        "| maps of other findings |",
        "|---|---|---|---|---|---|---|---|",
    ]
    counts = _counts(results)
    for row in results.macros:
        hit, times = row.figures["hit_rate"], row.figures["times_chance"]
        lines.append(
            f"| {row.name} | {sum(counts[name] for name in row.findings)} | {hit.value:.3f} "
            f"| {hit.low:.3f} to {hit.high:.3f} | {row.figures['chance'].value:.4f} "
            f"| {times.value:.1f} | {times.low:.1f} to {times.high:.1f} "
            f"| {row.figures['other_maps'].value:.3f} |"
        )
    return "\n".join(lines) + "\n"


def _worst(rows: Sequence[Macro]) -> str:
    return min(rows, key=lambda row: row.figures["hit_rate"].value).name


def _counts(results: Results) -> dict[str, int]:
    counts: dict[str, int] = {}
    for row in results.predictions:
        counts[row["finding"]] = counts.get(row["finding"], 0) + 1
    return counts


def _figures(
    points: Sequence[Pointing], weights: Float[ndarray, "r n"], chosen: ndarray
) -> dict[str, Figure]:
    """Average over the chosen pairs, for the sample and every resample."""
    weights = weights * chosen
    columns = {
        "hit_rate": np.array([float(point.hit) for point in points]),
        "chance": np.array([point.chance for point in points]),
        "other_maps": np.array([point.other_maps for point in points]),
    }
    with np.errstate(divide="ignore", invalid="ignore"):
        means = {key: weights @ values / weights.sum(1) for key, values in columns.items()}
        means["times_chance"] = means["hit_rate"] / means["chance"]
        means["times_other_maps"] = means["hit_rate"] / means["other_maps"]
    return {key: figure(np.where(np.isfinite(means[key]), means[key], np.nan)) for key in METRICS}
