"""A negative control: reports that belong to other patients."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from medvlp.data.records import Skip, StudyRecord, StudySource


class ShuffledReports(StudySource):
    """Another source with the reports of its training studies permuted.

    A model trained on it must fall to chance; one that does not has found a leak between images
    and evaluation that is not language. Scans, labels and all other splits stay as they are.

    Args:
        source: The data set.
        seed: Of the permutation.
    """

    def __init__(self, source: StudySource, *, seed: int = 0) -> None:
        self.source = source
        self.seed = seed
        self.name = f"{source.name}_shuffled_reports"
        self.label_names = source.label_names
        self.skips: list[Skip] = []

    def materialise(self) -> None:
        """Let the data set write itself."""
        self.source.materialise()

    def describe(self) -> dict[str, Any]:
        """Say whose reports were shuffled, and how."""
        return {"name": self.name, "source": self.source.describe(), "seed": self.seed}

    def studies(self) -> Iterator[StudyRecord]:
        """Yield every study, the training ones with the texts of a random other."""
        studies = list(self.source.studies())
        self.skips = self.source.skips
        train = [row for row, study in enumerate(studies) if study.split == "train"]
        donors = dict(zip(train, np.random.default_rng(self.seed).permutation(train), strict=True))
        for row, study in enumerate(studies):
            yield replace(study, texts=studies[donors.get(row, row)].texts)
