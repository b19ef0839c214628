"""Training, validation and test samples of a probe, from the splits that a data set has."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from medvlp.evaluation.embedded_set import EmbeddedSet

_VALIDATION_SHARE = 0.2


def three_splits(
    found: Mapping[str, EmbeddedSet | None], *, shares: tuple[float, float] = (0.6, 0.2), seed: int
) -> tuple[dict[str, EmbeddedSet], str]:
    """Complete what is missing, by patient.

    Without "val" a fifth of the training patients become it. Without "train" or "test" all samples
    are divided anew.

    Args:
        found: By the names "train", "val", "test"; None where the data have none.
        shares: Of the patients that train and validate where all are divided; the rest is tested.
        seed: Of the division.

    Returns:
        The splits, with the same labels in the same order, and what was done, in words.

    Raises:
        ValueError: If there is no sample at all, or a share is none.
    """
    if min(shares) <= 0 or sum(shares) >= 1:
        raise ValueError(f"shares are {shares}, expected two above 0 that leave some for the test")
    there = {name: one for name, one in found.items() if one is not None and len(one)}
    if not there:
        raise ValueError("the data have no sample in train, val or test")
    names = list(dict.fromkeys(label for one in there.values() for label in one.label_names))
    there = {name: _aligned(one, names) for name, one in there.items()}
    if set(there) == {"train", "val", "test"}:
        return there, "the data's own splits"
    if "train" in there and "test" in there:
        train, val = _divide(there["train"], (1 - _VALIDATION_SHARE,), seed)
        note = f"validation: {_VALIDATION_SHARE:.0%} of the training patients"
        return {"train": train, "val": val, "test": there["test"]}, note
    everything = _joined(list(there.values()))
    train, val, test = _divide(everything, shares, seed)
    rest = 1 - sum(shares)
    note = f"divided by patient: {shares[0]:.0%} train, {shares[1]:.0%} val, {rest:.0%} test"
    return {"train": train, "val": val, "test": test}, note


def _divide(one: EmbeddedSet, shares: Sequence[float], seed: int) -> list[EmbeddedSet]:
    patients = np.unique(np.asarray(one.patient_ids))
    order = np.random.default_rng((seed, 2)).permutation(len(patients))
    ends = np.round(np.cumsum(shares) * len(patients)).astype(int)
    number = np.zeros(len(patients), np.int64)
    number[order] = np.searchsorted(ends, np.arange(len(patients)), side="right")
    of_sample = number[np.searchsorted(patients, np.asarray(one.patient_ids))]
    return [one.where(of_sample == part) for part in range(len(ends) + 1)]


def _joined(parts: Sequence[EmbeddedSet]) -> EmbeddedSet:
    lists = ("sample_ids", "patient_ids", "metadata")
    return replace(
        parts[0],
        features=np.concatenate([one.features for one in parts]),
        labels=np.concatenate([one.labels for one in parts]),
        **{name: [value for one in parts for value in getattr(one, name)] for name in lists},
    )


def _aligned(one: EmbeddedSet, names: Sequence[str]) -> EmbeddedSet:
    labels = np.full((len(one), len(names)), -1, dtype=np.int64)
    for k, name in enumerate(one.label_names):
        labels[:, names.index(name)] = one.labels[:, k]
    return replace(one, labels=labels, label_names=list(names))
