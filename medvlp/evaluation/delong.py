"""DeLong's test: do two AUROCs on the same samples differ?"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray
from scipy.stats import norm, rankdata


@dataclass(frozen=True)
class DeLong:
    """Outcome of the test.

    Attributes:
        difference: First AUROC less the second.
        standard_error: Of the difference.
        p: Two-sided; 1 where the scores rank all samples alike.
    """

    difference: float
    standard_error: float
    p: float


def delong_test(
    labels: Bool[ndarray, " n"], first: Float[ndarray, " n"], second: Float[ndarray, " n"]
) -> DeLong:
    """Compare two AUROCs. Samples count as independent: several of one patient are too sure.

    Raises:
        ValueError: If there are fewer than two samples of either label.

    Reference: DeLong, DeLong and Clarke-Pearson, Biometrics 1988; computed by ranks as Sun and Xu,
    IEEE Signal Processing Letters 2014.
    """
    if min(labels.sum(), (~labels).sum()) < 2:
        raise ValueError(
            f"{labels.sum()} positive and {(~labels).sum()} negative samples; DeLong's test needs "
            "two of each"
        )
    placements = [_placements(labels, scores) for scores in (first, second)]
    of_positives = placements[0][0] - placements[1][0]
    of_negatives = placements[0][1] - placements[1][1]
    difference = float(of_positives.mean())
    variance = of_positives.var(ddof=1) / of_positives.size
    variance += of_negatives.var(ddof=1) / of_negatives.size
    error = math.sqrt(variance)
    if error == 0:
        return DeLong(difference, 0.0, 1.0 if difference == 0 else 0.0)
    return DeLong(difference, error, float(2 * norm.sf(abs(difference) / error)))


def _placements(
    labels: Bool[ndarray, " n"], scores: Float[ndarray, " n"]
) -> tuple[Float[ndarray, " p"], Float[ndarray, " q"]]:
    """Return for each positive the share of negatives below it, for each negative that above."""
    positives, negatives = scores[labels], scores[~labels]
    joint = rankdata(np.concatenate([positives, negatives]))
    below = joint[: positives.size] - rankdata(positives)
    above = joint[positives.size :] - rankdata(negatives)
    return below / negatives.size, 1 - above / positives.size
