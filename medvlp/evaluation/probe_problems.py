"""What a probe has to learn: one choice among classes, or each label on its own."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Int
from numpy import ndarray

from medvlp.evaluation.embedded_set import EmbeddedSet

Task = Literal["choice", "findings"]
"""choice: one of the classes is true of a sample, one probe over all of them; findings: each label
on its own, one probe of two classes for each."""

Splits = Mapping[str, EmbeddedSet]
"""By the names "train", "val", "test"."""


class Problem(NamedTuple):
    """One classifier to be fitted.

    Attributes:
        columns: Of the labels.
        num_classes: One for each column, or absent and present.
        classes: Class of every sample of each split; -1 unknown.
    """

    columns: list[int]
    num_classes: int
    classes: dict[str, Int[ndarray, " n"]]


def task_of(splits: Splits) -> Task:
    """Tell whether exactly one of several labels is true of every labelled sample."""
    labels = np.concatenate([one.labels for one in splits.values()])
    known = labels[(labels >= 0).any(axis=1)]
    one_each = (known == 1).sum(axis=1) == 1
    return "choice" if labels.shape[1] > 1 and bool(one_each.all()) else "findings"


def usable(splits: Splits, task: Task) -> tuple[dict[str, EmbeddedSet], dict[str, int]]:
    """Leave out samples without a usable label, and of training those of held-out patients.

    Returns:
        The splits, and reasons with the number of samples.

    Raises:
        ValueError: If nothing is left of a split.
    """
    left_out: dict[str, int] = {}
    held_out: set[str] = set()
    kept: dict[str, EmbeddedSet] = {}
    for split in ("test", "val", "train"):
        one = splits[split]
        reasons = {
            f"of {split}: {_reason(task)}": ~_labelled(one, task),
            f"of {split}: their patients are held out": np.array(
                [patient in held_out for patient in one.patient_ids], dtype=bool
            ),
        }
        for reason, rows in reasons.items():
            if rows.any():
                left_out[reason] = int(rows.sum())
        kept[split] = one.where(~np.logical_or.reduce(list(reasons.values())))
        held_out |= set(kept[split].patient_ids)
        if not len(kept[split]):
            raise ValueError(
                f"the {split} split has {len(one)} samples and none to use: "
                f"{', '.join(f'{n} {why}' for why, n in left_out.items()) or 'it is empty'}; give "
                "labels, or another --target or --task"
            )
        if task == "choice":  # where one is true the others are not
            labels = (kept[split].labels == 1).astype(np.int64)
            kept[split] = replace(kept[split], labels=labels)
    return kept, left_out


def problems_of(splits: Splits, task: Task) -> tuple[list[Problem], dict[str, str]]:
    """List what is to be fitted, and labels that cannot be, with the reason.

    Raises:
        ValueError: If none can.
    """
    names = splits["test"].label_names
    if task == "choice":
        classes = {split: one.labels.argmax(axis=1) for split, one in splits.items()}
        if len(np.unique(classes["train"])) < 2:
            raise ValueError("the training split has one class only: there is nothing to learn")
        return [Problem(list(range(len(names))), len(names), classes)], {}
    problems, skipped = [], {}
    for k, name in enumerate(names):
        classes = {split: one.labels[:, k] for split, one in splits.items()}
        values = {split: set(one[one >= 0].tolist()) for split, one in classes.items()}
        if len(values["train"]) < 2:
            skipped[name] = "not both present and absent in training"
        elif not values["val"]:
            skipped[name] = "no known label in validation"
        else:
            problems.append(Problem([k], 2, classes))
    if not problems:
        raise ValueError(
            "no label can be learnt: "
            + ("; ".join(f"{name}: {why}" for name, why in skipped.items()) or "there is none")
        )
    return problems, skipped


def _labelled(one: EmbeddedSet, task: Task) -> Bool[ndarray, " n"]:
    if task == "choice":
        return np.equal((one.labels == 1).sum(axis=1), 1)
    return np.any(one.labels >= 0, axis=1)


def _reason(task: Task) -> str:
    return "not exactly one true class" if task == "choice" else "no known label"
