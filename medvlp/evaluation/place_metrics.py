"""How far a named place is from the true one: rank, level of the tree, distance, side."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from medvlp.data.lesion_places import PlaceVocabulary
from medvlp.evaluation.statistics import defined_mean

Rows = Sequence[Mapping[str, Any]]
"""Lesions. Each has "truth", a list of names any of which is right; "names", those guessed, best
first; "coarse", coarse places guessed, best first; "probability" of the first name. What a stage
did not guess is empty, or NaN."""

TreePath = tuple[str, ...]
"""Of a place: body region, coarse place, final name. Of a coarse place its first two."""

_SIDES = {"left": "right", "right": "left", "L": "R", "R": "L"}
_SIDED = re.compile(r"\b(left|right)\b|(?<![a-z])[LR](?=\d)|(?<=\d)[LR]\b", re.IGNORECASE)


def lesion_metrics(
    rows: Rows, vocabulary: PlaceVocabulary | None = None, *, cutoffs: Sequence[int] = (1, 3, 5)
) -> dict[str, Float[ndarray, " n"]]:
    """Score each lesion; NaN where there is nothing to score.

    Returns:
        top<k>: Whether a true name is among the first k. laterality_error: Whether the first name
        is wrong, and would be right on the other side. With a vocabulary also region, coarse:
        whether the first name lies in the true body region, coarse place; fine_given_coarse:
        whether it is right, where its coarse place is; tree_distance: steps in the tree to the
        nearest true name (0 right, 2 another name of the coarse place, 4 another coarse place, 6
        another region); coarse_top<k>: whether a true coarse place is among the first k coarse
        ones. Cutoffs that no list reaches are left out.
    """
    table: dict[str, list[float]] = {}
    paths = {} if vocabulary is None else paths_of(vocabulary)
    most, most_coarse = (_longest(rows, key, cutoffs) for key in ("names", "coarse"))
    for row in rows:
        truth, names = set(row["truth"]), list(row["names"])
        scores = {f"top{k}": _hit(names, truth, k) for k in most}
        sided = bool(names) and names[0] not in truth and mirrored(names[0]) in truth
        scores["laterality_error"] = float(sided) if names else np.nan
        if vocabulary is not None:
            true_paths = [paths.get(name, ()) for name in row["truth"]]
            scores |= _tree_scores(paths.get(names[0], ()) if names else None, true_paths)
            coarse = {path[1] for path in true_paths if len(path) > 1}
            scores |= {f"coarse_top{k}": _hit(row["coarse"], coarse, k) for k in most_coarse}
        for name, score in scores.items():
            table.setdefault(name, []).append(score)
    return {name: np.array(scores, np.float64) for name, scores in table.items()}


def chance_scores(rows: Rows, vocabulary: PlaceVocabulary) -> dict[str, Float[ndarray, " n"]]:
    """Score each lesion as one that nobody looked at would be.

    Returns:
        top1_most_frequent: Whether the name that most of these lesions have is a true one, and so
        the accuracy of who always says it. top1_uniform: Share of true names in the vocabulary.
        top1_within_coarse: Share of true names among those of the true coarse places, which a fine
        stage alone chooses from. coarse_top1_most_frequent, coarse_top1_uniform: Of coarse places.
    """
    paths = paths_of(vocabulary)
    known = [{name for name in row["truth"] if len(paths.get(name, ())) == 3} for row in rows]
    coarse = [{paths[n][1] for n in row["truth"] if n in paths} for row in rows]
    within = [{p.name for word in words for p in vocabulary.within(word)} for words in coarse]
    num_names, num_coarse = len(vocabulary.places), len(vocabulary.coarse_words)
    common, common_coarse = (_most_frequent(truths) for truths in (known, coarse))
    scores = {
        "top1_most_frequent": [float(common in names) for names in known],
        "top1_uniform": [len(names) / num_names for names in known],
        "top1_within_coarse": [
            len(names) / len(others) if others else np.nan
            for names, others in zip(known, within, strict=True)
        ],
        "coarse_top1_most_frequent": [float(common_coarse in words) for words in coarse],
        "coarse_top1_uniform": [len(words) / num_coarse for words in coarse],
    }
    return {name: np.array(values, np.float64) for name, values in scores.items()}


def paths_of(vocabulary: PlaceVocabulary) -> dict[str, TreePath]:
    """Give the path of every final name, and of coarse places that are none themselves."""
    paths: dict[str, TreePath] = {place.coarse: place[:2] for place in vocabulary.places}
    return paths | {place.name: (*place[:2], place.name) for place in vocabulary.places}


def tree_distance(one: TreePath, other: TreePath) -> int:
    """Count the steps from one place to another, over what holds both.

    >>> tree_distance(("Chest", "Heart", "Septum"), ("Chest", "Left lung"))
    3
    """
    common = 0
    for a, b in zip(one, other, strict=False):
        if a != b:
            break
        common += 1
    return len(one) + len(other) - 2 * common


def mirrored(name: str) -> str:
    """Write a name with its sides swapped.

    >>> mirrored("Near left iliac vessel"), mirrored("Rib R11"), mirrored("Mediastinum 4L")
    ('Near right iliac vessel', 'Rib L11', 'Mediastinum 4R')
    """

    def swap(found: re.Match[str]) -> str:
        word = found[0]
        if word in _SIDES:
            return _SIDES[word]
        return _SIDES[word.lower()].capitalize()

    return _SIDED.sub(swap, name)


def weighted_means(
    metrics: Mapping[str, Float[ndarray, " n"]], weights: Float[ndarray, "r n"]
) -> dict[str, Float[ndarray, " r"]]:
    """Average each metric over the lesions that have it, for every row of weights."""
    means: dict[str, Float[ndarray, " r"]] = {}
    for name, values in metrics.items():
        defined = ~np.isnan(values)
        total = weights @ defined
        found = weights @ np.where(defined, values, 0.0)
        means[name] = np.divide(found, total, out=np.full(total.shape, np.nan), where=total > 0)
    return means


def mean_over_names(
    rows: Rows, right: Float[ndarray, " n"], weights: Float[ndarray, "r n"]
) -> Float[ndarray, " r"]:
    """Average the accuracy of each true name, so that rare places count as much as common ones."""
    lesions: dict[str, list[int]] = {}
    for index, row in enumerate(rows):
        for name in row["truth"]:
            lesions.setdefault(name, []).append(index)
    each = [
        weighted_means({name: right[chosen]}, weights[:, chosen])[name]
        for name, chosen in lesions.items()
    ]
    return defined_mean(each)


def _most_frequent(truths: Sequence[set[str]]) -> str:
    counts = Counter(name for names in truths for name in sorted(names))
    return max(counts, key=counts.__getitem__, default="")


def _longest(rows: Rows, key: str, cutoffs: Sequence[int]) -> list[int]:
    longest = max(len(row[key]) for row in rows)
    return [cutoff for cutoff in cutoffs if cutoff <= longest]


def _hit(ranked: Sequence[str], truth: set[str], cutoff: int) -> float:
    if not ranked or not truth:
        return np.nan
    return float(not truth.isdisjoint(ranked[:cutoff]))


def _tree_scores(guess: TreePath | None, truths: Sequence[TreePath]) -> dict[str, float]:
    """Score one name; None was not guessed."""
    known = [path for path in truths if path]
    if guess is None or not known:
        return dict.fromkeys(("region", "coarse", "fine_given_coarse", "tree_distance"), np.nan)
    coarse = len(guess) > 1 and guess[:2] in {path[:2] for path in known}
    return {
        "region": float(guess[:1] in {path[:1] for path in known}),
        "coarse": float(coarse),
        "fine_given_coarse": float(guess in known) if coarse else np.nan,
        "tree_distance": float(min(tree_distance(guess, path) for path in known)),
    }
