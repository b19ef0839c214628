"""How the packed scans of a batch divide into studies."""

from collections import Counter
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor


class StudyGroup(NamedTuple):
    """Studies of the same number of scans, which stand next to each other."""

    num_scans: int
    num_studies: int


class StudyLayout(NamedTuple):
    """Studies sorted by their number of scans, so that each group is one dense tensor.

    Attributes:
        groups: In ascending order of the number of scans.
        scan_order: The scan of the batch that stands at each place; None if none moves.
        study_place: The place where each study of the batch stands; None if none moves.
    """

    groups: tuple[StudyGroup, ...]
    scan_order: Int[Tensor, " n"] | None
    study_place: Int[Tensor, " b"] | None

    @classmethod
    def of(cls, num_scans: Sequence[int], total: int) -> "StudyLayout":
        """Lay out studies of `num_scans` scans each.

        Args:
            num_scans: Scans of each study.
            total: Scans that came.

        Raises:
            ValueError: If the numbers do not sum to `total`, or a study has no scan.
        """
        if not num_scans or min(num_scans) < 1 or sum(num_scans) != total:
            raise ValueError(
                f"num_scans {list(num_scans)} does not divide {total} scans into studies; every "
                "study needs at least one scan, and together they must be all scans of the batch"
            )
        groups = tuple(StudyGroup(*item) for item in sorted(Counter(num_scans).items()))
        order = sorted(range(len(num_scans)), key=num_scans.__getitem__)
        if order == list(range(len(num_scans))):
            return cls(groups, None, None)
        starts = [0, *accumulate(num_scans)]
        scans = [scan for study in order for scan in range(starts[study], starts[study + 1])]
        return cls(groups, torch.tensor(scans), torch.tensor(order).argsort())

    @property
    def num_studies(self) -> int:
        """Studies of the batch."""
        return sum(group.num_studies for group in self.groups)

    @property
    def most_scans(self) -> int:
        """Scans of the largest study."""
        return self.groups[-1].num_scans
