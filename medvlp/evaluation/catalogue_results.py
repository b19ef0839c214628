"""From the scores of many labelled sets to figures per set, per modality and over all."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from medvlp.data.catalogue_sets import CatalogueSet, Registry
from medvlp.evaluation.results import Figure, Macro, Results
from medvlp.evaluation.set_metrics import resampled_metrics, set_seed
from medvlp.evaluation.statistics import bootstrap_facts, defined_mean, figure

MEAN = "mean"
"""Macro row over all sets; of one modality it has the modality's name."""

_MEANS = ("acc", "mixed", "balanced_acc")

Samples = dict[str, Float[ndarray, " r"]]


@dataclass(frozen=True)
class ScoredSet:
    """The scores of one set.

    Attributes:
        one: The set.
        sample_ids: Of its images.
        patient_ids: What the bootstrap resamples.
        scores: Cosine to each class, in index order.
        truth: Class indices.
    """

    one: CatalogueSet
    sample_ids: list[str]
    patient_ids: list[str]
    scores: Float[ndarray, "n k"]
    truth: Int[ndarray, " n"]


@dataclass(frozen=True)
class CatalogueProtocol:
    """How scores of many sets become results.

    Attributes:
        name: For the result file.
        registry: Says which sets are to be averaged.
        prompt_hash: Of the prompts.
        without_prompts: Set -> why it has none.
        num_resamples: Of patients, within each set: sets are resampled independently.
        seed: Of the bootstrap.
    """

    name: str
    registry: Registry
    prompt_hash: str = ""
    without_prompts: Mapping[str, str] = field(default_factory=dict)
    num_resamples: int = 1000
    seed: int = 0


def catalogue_results(
    sets: Sequence[ScoredSet], protocol: CatalogueProtocol, facts: Mapping[str, Any]
) -> Results:
    """Compute every figure with its interval; the macro rows are means, modalities and sets.

    Sets that the registry does not average have a row, but no part in the means.

    Args:
        sets: Those with images, in the order of the registry.
        protocol: See there.
        facts: Further fields of `Results`.
    """
    registry = protocol.registry
    samples = {scored.one.name: _resampled(scored, protocol) for scored in sets}
    rows = {scored.one.name: _set_row(scored, samples[scored.one.name]) for scored in sets}
    return Results(
        protocol=protocol.name,
        num_samples=sum(len(scored.sample_ids) for scored in sets),
        num_patients=len({patient for scored in sets for patient in scored.patient_ids}),
        prompt_hash=protocol.prompt_hash,
        bootstrap=bootstrap_facts(protocol.num_resamples, protocol.seed),
        macros=[*_mean_rows(registry, samples), *rows.values()],
        skipped=_skipped(protocol, rows),
        score_rule="cosine",
        notes=_notes(sets, registry, rows),
        predictions=[row for scored in sets for row in _predictions(scored)],
        **facts,
    )


def _resampled(scored: ScoredSet, protocol: CatalogueProtocol) -> Samples:
    return resampled_metrics(
        scored.scores,
        scored.truth,
        scored.patient_ids,
        two_class=scored.one.two_class,
        num_resamples=protocol.num_resamples,
        seed=set_seed(protocol.seed, scored.one.name),
    )


def _skipped(protocol: CatalogueProtocol, rows: Mapping[str, Macro]) -> dict[str, str]:
    return {
        name: protocol.without_prompts.get(name, "no image of it was scored")
        for name in protocol.registry.averaged
        if name not in rows
    }


def _mean_rows(registry: Registry, samples: Mapping[str, Samples]) -> list[Macro]:
    averaged = [registry.sets[name] for name in registry.averaged]
    groups = {MEAN: averaged}
    for one in averaged:
        groups.setdefault(one.modality, []).append(one)
    rows = []
    for name, members in groups.items():
        scored = [one.name for one in members if one.name in samples]
        values = {"acc": [samples[n]["acc"] for n in scored]}
        values["mixed"] = [samples[n].get("auc_roc", samples[n]["acc"]) for n in scored]
        values["balanced_acc"] = [samples[n]["balanced_acc"] for n in scored]
        figures = {
            key: figure(defined_mean(values[key])) if scored else Figure(float("nan"))
            for key in _MEANS
        }
        figures["n_sets"] = Figure(float(len(scored)))
        rows.append(Macro(name, scored, figures))
    return rows


def _set_row(scored: ScoredSet, samples: Samples) -> Macro:
    """Return the figures of one set beside what chance and the largest class alone would score."""
    one, count = scored.one, len(scored.truth)
    figures = {name: figure(values) for name, values in samples.items()}
    largest = float(np.bincount(scored.truth).max()) / count
    figures |= {
        "n": Figure(float(count)),
        "chance": Figure(1 / len(one.classes)),
        "largest_class": Figure(largest),
    }
    return Macro(one.name, list(one.classes), figures)


def _notes(sets: Sequence[ScoredSet], registry: Registry, rows: Mapping[str, Macro]) -> list[str]:
    """Say what is missing, doubtful or at chance."""
    notes = _missing(registry, rows)
    known = [scored.one.name for scored in sets if scored.one.patient]
    notes.append(
        f"patients are known of {', '.join(known) or 'no set'}; elsewhere each image counts as "
        "one, and intervals are too narrow where a patient has several"
    )
    chance = [
        name
        for name, row in rows.items()
        if not row.figures["balanced_acc"].low > row.figures["chance"].value
    ]
    if chance:
        notes.append(f"balanced accuracy not above chance, by its interval: {', '.join(chance)}")
    for scored in sets:
        one = scored.one
        if one.name not in registry.averaged:
            notes.append(f"{one.name} takes no part in the means")
        absent = sorted(set(range(len(one.classes))) - set(scored.truth.tolist()))
        if absent:
            names = ", ".join(one.classes[k] for k in absent)
            undefined = "; its AUC is undefined: no part in the mixed mean" if one.two_class else ""
            notes.append(f"{one.name}: no image of class {names}{undefined}")
        if one.leakage:
            notes.append(f"possible leakage, {one.name}: {one.leakage}")
    return notes


def _missing(registry: Registry, rows: Mapping[str, Macro]) -> list[str]:
    missing = [name for name in registry.averaged if name not in rows]
    total = len(registry.averaged)
    modalities: dict[str, list[str]] = {}
    for name in registry.averaged:
        modalities.setdefault(registry.sets[name].modality, []).append(name)
    named = ", ".join(missing)
    notes = [f"the mean is over {total - len(missing)} of {total} sets; missing: {named}"]
    return (notes if missing else []) + [
        f"no image of modality {modality}: give one of the sets {', '.join(names)}"
        for modality, names in modalities.items()
        if not set(names) & set(rows)
    ]


def _predictions(scored: ScoredSet) -> list[dict[str, Any]]:
    choice = scored.scores.argmax(axis=1)
    return [
        {
            "sample_id": sample,
            "patient_id": patient,
            "dataset": scored.one.name,
            "modality": scored.one.modality,
            "label": scored.one.classes[truth],
            "prediction": scored.one.classes[chosen],
            "cosines": " ".join(f"{value:.6f}" for value in scores),
        }
        for sample, patient, truth, chosen, scores in zip(
            scored.sample_ids,
            scored.patient_ids,
            scored.truth,
            choice,
            scored.scores,
            strict=True,
        )
    ]
