"""The phantom twin of RadGenome-ChestCT as a data set: it writes itself where it is missing."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from medvlp.data.choices import check_choice
from medvlp.data.radgenome import RadGenome
from medvlp.data.radgenome_questions import KINDS
from medvlp.phantom.radgenome import spacing_mm, write_radgenome_twin
from medvlp.phantom.source import TwinSource


class PhantomRadGenome(TwinSource, RadGenome):
    """RadGenome-ChestCT's twin, read by the code that reads it.

    Args:
        root: See `TwinSource`, and so for all but prevalence and questions.
        num_train: Sessions of the training split.
        num_test: Sessions of the held-out split.
        seed: Of everything. Patients, findings and reports are those of CT-RATE's twin of this
            seed, as the real volumes are CT-RATE's.
        shape: Typical voxels along z, y, x.
        prevalence: Share of the sessions with each finding.
        num_workers: Processes that write; 0 writes in this one.
        hard_cases: Add the hard cases of the writer.
        kinds: The findings there can be; None: all 18.
        questions: See `RadGenome`.
    """

    name = "phantom_radgenome"
    write_twin = staticmethod(write_radgenome_twin)

    def __init__(
        self,
        root: str,
        *,
        num_train: int = 24,
        num_test: int = 8,
        seed: int = 0,
        shape: Sequence[int] = (48, 56, 56),
        prevalence: float = 0.3,
        num_workers: int = 0,
        hard_cases: bool = True,
        kinds: Sequence[str] | None = None,
        questions: Sequence[str] = KINDS,
    ) -> None:
        super().__init__(
            root,
            num_train=num_train,
            num_test=num_test,
            seed=seed,
            shape=shape,
            num_workers=num_workers,
            hard_cases=hard_cases,
            kinds=kinds,
        )
        self.parameters = replace(self.parameters, prevalence=prevalence)
        check_choice("questions", questions, KINDS)
        self.questions = tuple(questions)

    def describe(self) -> dict[str, Any]:
        """State the twin and all that decides its content."""
        return {**super().describe(), "prevalence": self.parameters.prevalence}

    def adapt(self) -> None:
        """State the twin's own voxels."""
        self.spacing_mm = spacing_mm(self.parameters.shape)
