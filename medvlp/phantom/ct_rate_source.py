"""The phantom twin of CT-RATE as a data set: it writes itself where it is missing."""

from collections.abc import Sequence
from typing import Any

from medvlp.data.ct_rate import CTRate
from medvlp.phantom.ct_rate import write_ct_rate_twin
from medvlp.types import Size3D


class PhantomCTRate(CTRate):
    """CT-RATE's twin, read by the very code that reads CT-RATE.

    Args:
        root: Folder of the twin; written by `materialise()` if it is not there.
        num_train: Sessions of the training split.
        num_valid: Sessions of the held-out split.
        seed: Of everything.
        shape: Typical voxels along z, y, x.
        prevalence: Share of the sessions with each finding.
        num_workers: Processes that write; 0 writes in this one.
        hard_cases: Add the hard cases, see `write_ct_rate_twin`.
    """

    name = "phantom_ct_rate"

    def __init__(
        self,
        root: str,
        *,
        num_train: int = 1600,
        num_valid: int = 300,
        seed: int = 0,
        shape: Sequence[int] = (64, 64, 64),
        prevalence: float = 0.3,
        num_workers: int = 2,
        hard_cases: bool = False,
    ) -> None:
        super().__init__(root)
        self.num_train = num_train
        self.num_valid = num_valid
        self.seed = seed
        self.shape: Size3D = (shape[0], shape[1], shape[2])
        self.prevalence = prevalence
        self.num_workers = num_workers
        self.hard_cases = hard_cases

    def materialise(self) -> None:
        """Write the twin; one that is complete is left as it is.

        Raises:
            ValueError: If the folder holds something else, or a twin of other parameters.
        """
        write_ct_rate_twin(
            self.root,
            num_train=self.num_train,
            num_valid=self.num_valid,
            seed=self.seed,
            shape=self.shape,
            prevalence=self.prevalence,
            num_workers=self.num_workers,
            hard_cases=self.hard_cases,
        )

    def describe(self) -> dict[str, Any]:
        """State where the twin lies and all that decides its content."""
        return {
            **super().describe(),
            "num_train": self.num_train,
            "num_valid": self.num_valid,
            "seed": self.seed,
            "shape": list(self.shape),
            "prevalence": self.prevalence,
            "hard_cases": self.hard_cases,
        }
