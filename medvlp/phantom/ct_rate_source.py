"""The phantom twin of CT-RATE as a data set: it writes itself where it is missing."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from medvlp.data.ct_rate import CTRate
from medvlp.phantom.chest_twin import state_chest
from medvlp.phantom.ct_rate import write_ct_rate_twin
from medvlp.phantom.source import TwinSource


class PhantomCTRate(TwinSource, CTRate):
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
        kinds: The findings there can be; None: all 18.
    """

    name = "phantom_ct_rate"
    write_twin = staticmethod(write_ct_rate_twin)

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
        kinds: Sequence[str] | None = None,
    ) -> None:
        super().__init__(
            root,
            num_train=num_train,
            num_test=num_valid,
            seed=seed,
            shape=shape,
            num_workers=num_workers,
            hard_cases=hard_cases,
            kinds=kinds,
        )
        self.parameters = replace(self.parameters, prevalence=prevalence)

    def describe(self) -> dict[str, Any]:
        """State where the twin lies and all that decides its content."""
        return {**CTRate.describe(self), **state_chest(self.parameters)}
