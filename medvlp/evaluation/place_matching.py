"""Which true lesion a predicted one is: boxes of two tables, case by case."""

from dataclasses import dataclass

from medvlp.data.lesion_geometry import box_iou
from medvlp.data.lesion_table import LesionTable


@dataclass(frozen=True)
class Matches:
    """What became of predicted lesions.

    Attributes:
        truth: Row of the truth of each prediction, or -1.
        lost_cases: Cases of predictions that the truth does not have: how many rows.
        unseen: Number of true lesions that no prediction is about.
    """

    truth: list[int]
    lost_cases: dict[str, int]
    unseen: int


def match_lesions(predicted: LesionTable, truth: LesionTable, min_iou: float = 0.5) -> Matches:
    """Find the true lesion of each predicted one: same case, largest IoU above `min_iou`.

    Several predictions may have the same one; of equal overlaps the first counts.

    Reference: HCL-AL (Gao et al., IEEE TMI 2025), published evaluation.
    """
    rows_of: dict[str, list[int]] = {}
    for row, case in enumerate(truth.cases):
        rows_of.setdefault(case, []).append(row)
    found: list[int] = []
    lost: dict[str, int] = {}
    for case, box in zip(predicted.cases, predicted.boxes, strict=True):
        rows = rows_of.get(case)
        if rows is None:
            lost[case] = lost.get(case, 0) + 1
            found.append(-1)
            continue
        overlap = box_iou(truth.boxes[rows], box)
        best = int(overlap.argmax())
        found.append(rows[best] if overlap[best] > min_iou else -1)
    return Matches(found, lost, len(set(range(len(truth.cases))) - set(found)))
