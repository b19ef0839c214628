"""Which labelled samples a probe may learn from: a share of them, or a few of each class."""

from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Int
from numpy import ndarray

Validation = Literal["scarce", "whole"]
"""What the L2 strength is chosen on: "scarce" takes of the validation split the same share as of
the training split, or min(shots, 4) of each class (CoOp, Zhou et al., IJCV 2022): whoever has few
labels has few for this too; "whole" takes all of it (CLIP, Radford et al., ICML 2021, A.3)."""

_MOST_VALIDATION_SHOTS = 4


class Budget(NamedTuple):
    """How many labels there are to learn from.

    Attributes:
        name: "all", "10 percent", "4 shots".
        fraction: Share of each class; None if `shots` counts.
        shots: Samples of each class.
    """

    name: str
    fraction: float | None = None
    shots: int | None = None

    @classmethod
    def of_fraction(cls, fraction: float) -> "Budget":
        """Take a share of each class.

        Raises:
            ValueError: If it is not above 0 and at most 1.
        """
        if not 0 < fraction <= 1:
            raise ValueError(f"a fraction is {fraction}, expected more than 0 and at most 1")
        return cls("all" if fraction == 1 else f"{100 * fraction:g} percent", fraction=fraction)

    @classmethod
    def of_shots(cls, shots: int) -> "Budget":
        """Take so many samples of each class.

        Raises:
            ValueError: If there is not at least one.
        """
        if shots < 1:
            raise ValueError(f"shots are {shots}, expected at least 1")
        return cls(f"{shots} shot{'s' if shots > 1 else ''}", shots=shots)

    @property
    def is_all(self) -> bool:
        """Whether nothing is drawn."""
        return self.fraction == 1

    def for_validation(self, rule: Validation) -> "Budget":
        """Say how much of the validation split the strength is chosen on."""
        if rule == "whole":
            return Budget.of_fraction(1.0)
        if self.shots is None:
            return self
        return Budget.of_shots(min(self.shots, _MOST_VALIDATION_SHOTS))


def draw(classes: Int[ndarray, " n"], budget: Budget, seed: tuple[int, ...]) -> Int[ndarray, " m"]:
    """Draw samples of each class, at least one; larger budgets of a seed contain smaller ones.

    Args:
        classes: Class of each sample; -1 is unknown and never drawn.
        budget: How many.
        seed: Of the order in which the samples of a class are drawn.

    Returns:
        Rows, rising.

    >>> draw(np.array([0, 0, 0, 0, 1, -1]), Budget.of_fraction(0.5), (0,)).size  # two and one
    3
    """
    chosen = []
    for name in np.unique(classes[classes >= 0]):
        rows = np.flatnonzero(classes == name)
        count = budget.shots or max(1, round(len(rows) * (budget.fraction or 0)))
        order = np.random.default_rng((*seed, int(name))).permutation(rows)
        chosen.append(order[:count])
    return np.sort(np.concatenate(chosen)) if chosen else np.zeros(0, np.int64)
