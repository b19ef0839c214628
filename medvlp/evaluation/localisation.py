"""Localisation of lesions: named places against the true ones."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray
from torch import Tensor

from medvlp.data.lesion_places import PlaceVocabulary
from medvlp.data.lesion_table import names_of
from medvlp.data.tables import nearest
from medvlp.evaluation.place_cascade import PlaceAnswer
from medvlp.evaluation.place_metrics import (
    chance_scores,
    lesion_metrics,
    mean_over_names,
    paths_of,
    weighted_means,
)
from medvlp.evaluation.results import Figure, Macro
from medvlp.evaluation.row_evaluation import RowEvaluation, Rows
from medvlp.evaluation.statistics import calibration_metrics, figure
from medvlp.types import VolumeBatch

SIZE_BANDS_MM = (10.0, 30.0)
"""Largest side of the lesion's box: below, between, above."""

_NUM_BINS = 10
_GROUP_METRICS = ("top1", "coarse", "tree_distance", "laterality_error", "coarse_top1")


class NamedPlaces(RowEvaluation):
    """Compare named places with those of the lesions.

    Lesions without a true name take no part and are counted.

    Args:
        vocabulary: Without it there are no figures of levels and regions.
        num_resamples: Bootstrap resamples of patients.
        seed: Of the bootstrap.
    """

    protocol = "localisation"
    score_rule = "choice"
    uncounted = "without a true place"
    advice = "there is nothing to compare with"

    def __init__(
        self, vocabulary: PlaceVocabulary | None, *, num_resamples: int = 1000, seed: int = 0
    ) -> None:
        super().__init__(num_resamples=num_resamples, seed=seed)
        self._places = vocabulary
        self.prompt_hash = "" if vocabulary is None else vocabulary.digest

    @property
    def class_names(self) -> list[str]:
        """Name the scores of a row: there are none."""
        return []

    def update(self, answers: Sequence[PlaceAnswer] | Tensor, batch: VolumeBatch, /) -> None:
        """Keep the answers beside the true places.

        Raises:
            ValueError: If the batch is not of lesions, or there is not one answer for each.
        """
        targets = lesions_of(batch)
        if isinstance(answers, Tensor) or len(answers) != len(targets):
            raise ValueError(
                f"{len(answers)} embeddings or answers for {len(targets)} lesions, expected one "
                "answer of a cascade for each; embeddings are for PlaceRetrieval"
            )
        for row, (answer, target) in enumerate(zip(answers, targets, strict=True)):
            ids = {key: batch[key][row] for key in ("sample_id", "patient_id")}
            ids |= {"recipe_hash": batch["recipe_hash"], "scores": []}
            truth = names_of(target.get("place", ""))
            self._rows.append(ids | answer_row(answer, truth, target["box_mm"]))

    def counts(self, row: Mapping[str, Any]) -> bool:
        """Take the lesions whose place is known."""
        return bool(row["truth"])

    def figures(self, rows: Rows, kept: Rows) -> tuple[list[Macro], list[str]]:
        """Return all figures; one is the share of lesions that count, so all are drawn of."""
        weights = self.weights(rows)
        counted = np.array([self.counts(row) for row in rows])
        macros, notes = self.macros(kept, weights[:, counted])
        matched = weighted_means({"matched": counted.astype(np.float64)}, weights)
        return [*macros, _macro("coverage", len(rows), matched)], notes

    def macros(self, rows: Rows, weights: Float[ndarray, "r n"]) -> tuple[list[Macro], list[str]]:
        """Return the figures of all lesions, of regions and of sizes; see `lesion_metrics`."""
        return _macros(rows, self._places, weights), _unknown_names(rows, self._places)

    def predictions(self, rows: Rows) -> list[dict[str, Any]]:
        """Return true and named places."""
        return [_prediction(row) for row in rows]


class Localisation(NamedPlaces):
    """Compare the places that a cascade names with those of the lesions; an `Evaluation`.

    Args:
        vocabulary: Name of a shipped one, or a file of places, see `medvlp.data.place_file`.
        descriptions: File of its texts, where they are a file of their own.
        num_resamples: Bootstrap resamples of patients.
        seed: Of the bootstrap.
    """

    def __init__(
        self,
        vocabulary: str,
        descriptions: str | None = None,
        *,
        num_resamples: int = 1000,
        seed: int = 0,
    ) -> None:
        self.vocabulary = PlaceVocabulary.load(vocabulary, descriptions)
        super().__init__(self.vocabulary, num_resamples=num_resamples, seed=seed)


def lesions_of(batch: VolumeBatch) -> list[dict[str, Any]]:
    """List the lesions that the samples of a batch are about.

    Raises:
        ValueError: If a sample is about none.
    """
    targets = [row for row in batch.get("target", []) if row is not None and "box_mm" in row]
    if len(targets) != len(batch["sample_id"]):
        raise ValueError(
            f"{len(targets)} of {len(batch['sample_id'])} samples are about a lesion; let all be: "
            "data.scans.evaluation: medvlp.data.sampling.EachLesion"
        )
    return targets


def answer_row(answer: PlaceAnswer, truth: list[str], box_mm: Sequence[float]) -> dict[str, Any]:
    """Write an answer as a row of `lesion_metrics`."""
    return {
        "truth": truth,
        "names": list(answer.names),
        "coarse": list(answer.coarse),
        "coarse_probabilities": list(answer.coarse_probabilities),
        "probability": answer.probabilities[0] if answer.probabilities else float("nan"),
        "size_mm": max(box_mm[3:]),
    }


def _macros(
    rows: Rows, vocabulary: PlaceVocabulary | None, weights: Float[ndarray, "r n"]
) -> list[Macro]:
    metrics = lesion_metrics(rows, vocabulary)
    means = weighted_means(metrics, weights)
    right = metrics.get("top1", np.full(len(rows), np.nan))  # the coarse stage alone has no names
    means["top1_mean_over_names"] = mean_over_names(rows, right, weights)
    macros = [_macro("localisation", len(rows), means)]
    if vocabulary is not None:
        guesses = weighted_means(chance_scores(rows, vocabulary), weights)
        macros.append(_macro("chance", len(rows), guesses))
    macros += _calibrations(rows, metrics, weights)
    chosen = {name: metrics[name] for name in _GROUP_METRICS if name in metrics}
    for name, member in _groups(rows, vocabulary).items():
        means = weighted_means(
            {key: one[member] for key, one in chosen.items()}, weights[:, member]
        )
        macros.append(_macro(name, int(member.sum()), means))
    return macros


def _calibrations(
    rows: Rows, metrics: Mapping[str, Float[ndarray, " n"]], weights: Float[ndarray, "r n"]
) -> list[Macro]:
    """Compare the probabilities of first names and of first coarse places with what is right."""
    coarse = [row.get("coarse_probabilities") or [np.nan] for row in rows]
    stated = {
        "calibration": ("top1", [row["probability"] for row in rows]),
        "coarse_calibration": ("coarse_top1", [values[0] for values in coarse]),
    }
    macros: list[Macro] = []
    for name, (key, values) in stated.items():
        probability = np.array(values, np.float64)
        right = metrics.get(key, np.full(len(rows), np.nan))
        sure = ~np.isnan(probability) & ~np.isnan(right)
        if sure.any():
            ece, brier = calibration_metrics(
                right[sure] == 1, probability[sure], weights[:, sure], _NUM_BINS
            )
            macros.append(_macro(name, int(sure.sum()), {"ece": ece, "brier": brier}))
    return macros


def _groups(rows: Rows, vocabulary: PlaceVocabulary | None) -> dict[str, Bool[ndarray, " n"]]:
    """Divide lesions by the region of their first true name, and by their size."""
    groups: dict[str, Bool[ndarray, " n"]] = {}
    if vocabulary is not None:
        paths = paths_of(vocabulary)
        regions = np.array([paths.get(row["truth"][0], ("",))[0] for row in rows])
        for region in dict.fromkeys(place.body for place in vocabulary.places):
            groups[f"region: {region}"] = regions == region
    small, large = SIZE_BANDS_MM
    sizes = np.array([row["size_mm"] for row in rows], np.float64)
    groups[f"size: below {small:g} mm"] = sizes < small
    groups[f"size: {small:g} to {large:g} mm"] = (sizes >= small) & (sizes <= large)
    groups[f"size: above {large:g} mm"] = sizes > large
    return {name: member for name, member in groups.items() if member.any()}


def _macro(name: str, number: int, values: Mapping[str, Float[ndarray, " r"]]) -> Macro:
    """Make a row of what is defined; "n" is how many lesions it is about."""
    defined = {key: figure(one) for key, one in values.items() if not np.isnan(one[0])}
    return Macro(name, [], {"n": Figure(float(number))} | defined)


def _unknown_names(rows: Rows, vocabulary: PlaceVocabulary | None) -> list[str]:
    """Say which true names the vocabulary lacks, with the nearest that it has."""
    if vocabulary is None:
        return []
    known = {place.name for place in vocabulary.places}
    lost: dict[str, int] = {}
    for row in rows:
        for name in row["truth"]:
            if name not in known:
                lost[name] = lost.get(name, 0) + 1
    if not lost:
        return []
    told = [f"{name!r} ({count} lesions{nearest(name, known)})" for name, count in lost.items()]
    more = ", ..." if len(told) > 5 else ""
    return [f"{len(lost)} true names are not in the vocabulary: {', '.join(told[:5])}{more}"]


def _prediction(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "sample_id": row["sample_id"],
        "patient_id": row["patient_id"],
        "GT": ",".join(row["truth"]),
        "pred": row["names"][0] if row["names"] else "",
        "probability": row["probability"],
        "coarse_labels": ",".join(row["coarse"]),
        "coarse_probs": ",".join(map(repr, row.get("coarse_probabilities", ()))),
        "size_mm": row["size_mm"],
    }
