"""What is known about one finding of one patient."""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from medvlp.data.ct_rate import LABEL_NAMES
from medvlp.phantom.thorax import Thorax

LABELS: tuple[str, ...] = LABEL_NAMES
"""CT-RATE's labels in the published order; the id in finding masks is 1 + the place here."""


def finding_id(name: str) -> int:
    """Return the id of a finding in the finding masks."""
    return LABELS.index(name) + 1


@dataclass(frozen=True)
class Finding:
    """One finding, as drawn; painting it needs no further chance.

    Attributes:
        name: Its label.
        side: left, right, bilateral, or empty.
        place: Words for where it is; empty if the name says it.
        degree: Words for how much of it there is.
        size_mm: Its largest extent in the standard body.
        points: Middles of its parts (z, y, x) in the standard body.
        radii: Of its parts.
        amount: A number that its painter understands.
        seed: Of its texture.
    """

    name: str
    side: str = ""
    place: str = ""
    degree: str = ""
    size_mm: float = 0.0
    points: Float[np.ndarray, "n 3"] = field(default_factory=lambda: np.zeros((0, 3)))
    radii: Float[np.ndarray, " n"] = field(default_factory=lambda: np.zeros(0))
    amount: float = 0.0
    seed: int = 0


@dataclass(frozen=True)
class Request:
    """What a sampler of findings is given.

    Attributes:
        name: The label.
        thorax: In whom.
        side: On which side; empty if side means nothing to the finding.
        rng: Source of everything else.
    """

    name: str
    thorax: Thorax
    side: str
    rng: np.random.Generator

    def uniform(self, low: float, high: float) -> float:
        """Draw a number."""
        return float(self.rng.uniform(low, high))

    def choice(self, *options: str) -> str:
        """Draw one of several words."""
        return options[int(self.rng.integers(len(options)))]

    def seed(self) -> int:
        """Draw a seed for a texture."""
        return int(self.rng.integers(2**31))


def grade(value: float, low: float, high: float) -> str:
    """Return mild, moderate or severe for a value between the two ends of its range.

    >>> grade(1.0, 0.0, 9.0), grade(8.0, 0.0, 9.0)
    ('mild', 'severe')
    """
    third = (value - low) / (high - low) * 3
    return ("mild", "moderate", "severe")[int(np.clip(third, 0, 2))]
