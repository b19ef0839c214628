"""What decides every byte of a twin: how many studies, of which size, from which seed."""

from dataclasses import dataclass
from typing import Any

from medvlp.types import Size3D

MIN_SIZE = 16


@dataclass(frozen=True)
class TwinParameters:
    """What is wanted of a twin; the same for every data set.

    Attributes:
        num_train: Studies of the training split, hard cases not counted.
        num_test: Held-out studies, hard cases not counted.
        seed: Of everything; study i is the same whatever the number of studies.
        shape: Typical voxels along z, y, x; every volume differs a little, thick slices are fewer.
        hard_cases: Whether the odd, incomplete and corrupt ones are written too.
        prevalence: Share of the studies with each finding. Only chest CTs take it (None: 0.3); the
            findings of the other twins come in turn.
        kinds: What is found, in turn; None takes all that the twin knows. Only some twins let
            you choose, see `TwinWriter.takes_kinds`.
    """

    num_train: int
    num_test: int
    seed: int = 0
    shape: Size3D = (48, 56, 56)
    hard_cases: bool = False
    prevalence: float | None = None
    kinds: tuple[str, ...] | None = None

    def check(self) -> None:
        """Refuse a twin that would be empty or too coarse.

        Raises:
            ValueError: With the numbers.
        """
        if self.num_train < 1 or self.num_test < 0:
            raise ValueError(
                f"{self.num_train} training and {self.num_test} held-out studies: at least one "
                "training study is needed, and no negative number"
            )
        if min(self.shape) < MIN_SIZE:
            raise ValueError(f"shape {self.shape} is too small, take {MIN_SIZE} or more")
        if self.prevalence is not None and not 0 <= self.prevalence <= 1:
            raise ValueError(f"prevalence {self.prevalence} is not between 0 and 1")

    def as_json(self) -> dict[str, Any]:
        """State the parameters as the `twin.json` of a twin without prevalence has them."""
        stated: dict[str, Any] = {
            "num_train": self.num_train,
            "num_test": self.num_test,
            "seed": self.seed,
            "shape": list(self.shape),
            "hard_cases": self.hard_cases,
        }
        return stated if self.kinds is None else stated | {"kinds": list(self.kinds)}
