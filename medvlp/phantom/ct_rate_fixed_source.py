"""The phantom twin of CT-RATE v2 as a data set: it writes itself where it is missing."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from medvlp.data.ct_rate_fixed import CTRateFixed
from medvlp.phantom.chest_twin import state_chest
from medvlp.phantom.ct_rate_fixed import write_ct_rate_fixed_twin
from medvlp.phantom.source import TwinSource


class PhantomCTRateFixed(TwinSource, CTRateFixed):
    """CT-RATE v2's twin, read by the code that reads CT-RATE v2.

    Args:
        root: See `TwinSource`, and so for all but the last.
        num_train: Sessions of the training split.
        num_test: Sessions of the held-out split.
        seed: Of everything.
        shape: Typical voxels along z, y, x.
        num_workers: Processes that write; 0 writes in this one.
        hard_cases: Add the hard cases of the writer.
        prevalence: Share of the sessions with each finding; None: 0.3.
    """

    name = "phantom_ct_rate_fixed"
    write_twin = staticmethod(write_ct_rate_fixed_twin)

    def __init__(
        self,
        root: str,
        *,
        num_train: int = 24,
        num_test: int = 8,
        seed: int = 0,
        shape: Sequence[int] = (48, 56, 56),
        num_workers: int = 0,
        hard_cases: bool = True,
        prevalence: float | None = None,
    ) -> None:
        super().__init__(
            root,
            num_train=num_train,
            num_test=num_test,
            seed=seed,
            shape=shape,
            num_workers=num_workers,
            hard_cases=hard_cases,
        )
        self.parameters = replace(self.parameters, prevalence=prevalence)

    def adapt(self) -> None:
        """Read the masks too, which the twin always has."""
        self.anatomy_masks = "{split}_mask"

    def describe(self) -> dict[str, Any]:
        """State where the twin lies and all that decides its content."""
        return {**CTRateFixed.describe(self), **state_chest(self.parameters)}
