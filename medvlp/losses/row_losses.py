"""What a row of similarities costs, beyond the plain cross entropy.

Each module takes the logits of rows and says which columns of a row are right: one, or several
where texts are equal. It averages over rows. Which columns score best is not differentiated.

Reference: HCL-AL (Gao et al., IEEE TMI 2025, doi 10.1109/TMI.2025.3599197); its code,
github.com/HerrBaum-YR/HCL-AL.
"""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from medvlp.losses.functional import normalise_rows


class SmoothedRows(nn.Module):
    """Cross entropy; a share of the target is spread over all columns.

    Args:
        label_smoothing: That share.

    Raises:
        ValueError: If it is not in [0, 1).
    """

    def __init__(self, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.label_smoothing = _share(label_smoothing)

    def forward(
        self, logits: Float[Tensor, "r k"], positives: Bool[Tensor, "r k"]
    ) -> Float[Tensor, ""]:
        """Return the mean over rows."""
        return F.cross_entropy(
            logits, normalise_rows(positives), label_smoothing=self.label_smoothing
        )


class RankedRows(nn.Module):
    """Give the right column the first target, and the best wrong ones the following.

    Args:
        targets: Weights of the right column, the best wrong one, the second best, ...

    Raises:
        ValueError: If there are none, or one is negative.
    """

    def __init__(self, targets: Sequence[float] = (0.7, 0.2, 0.1)) -> None:
        super().__init__()
        if not targets or min(targets) < 0:
            raise ValueError(f"targets are {list(targets)}, expected weights from 0 on")
        self.targets = tuple(targets)

    def forward(
        self, logits: Float[Tensor, "r k"], positives: Bool[Tensor, "r k"]
    ) -> Float[Tensor, ""]:
        """Return the mean over rows.

        Raises:
            ValueError: If training, and there are fewer columns than targets.
        """
        first, *others = self.targets
        best = _best_negatives(logits, positives, len(others), training=self.training)
        weights = logits.new_tensor(others[: best.shape[1]]).expand(best.shape)
        wrong = torch.zeros_like(logits).scatter(1, best, weights).masked_fill(positives, 0.0)
        return F.cross_entropy(logits, first * normalise_rows(positives) + wrong)


class SkipTopRows(nn.Module):
    """Cross entropy that leaves the best wrong columns of each row alone: they may be right.

    Args:
        num_skipped: How many.
        label_smoothing: Share of the target for the wrong columns that are left, in equal parts.
        compat: "published" takes the skipped columns' part of the target away and no more: they
            stay in the denominator, and are pushed away a little harder than without. None takes
            them out of the row.

    Raises:
        ValueError: If a number is out of range.
    """

    def __init__(
        self,
        num_skipped: int,
        label_smoothing: float = 0.1,
        *,
        compat: Literal["published"] | None = None,
    ) -> None:
        super().__init__()
        if num_skipped < 0:
            raise ValueError(f"num_skipped is {num_skipped}, expected 0 or more")
        self.num_skipped = num_skipped
        self.label_smoothing = _share(label_smoothing)
        self.compat = compat

    def forward(
        self, logits: Float[Tensor, "r k"], positives: Bool[Tensor, "r k"]
    ) -> Float[Tensor, ""]:
        """Return the mean over rows.

        Raises:
            ValueError: If training, and there are fewer wrong columns than are to be skipped.
        """
        best = _best_negatives(logits, positives, self.num_skipped, training=self.training)
        skipped = torch.zeros_like(positives).scatter(1, best, True) & ~positives
        left = ~positives & ~skipped
        if self.compat is None:
            logits = logits.masked_fill(skipped, torch.finfo(logits.dtype).min)
            wrong = normalise_rows(left)
        else:
            wrong = left / (~positives).sum(dim=1, keepdim=True).clamp(min=1)
        right = (1 - self.label_smoothing) * normalise_rows(positives)
        return F.cross_entropy(logits, right + self.label_smoothing * wrong)


def hardest_negatives(
    positive: Float[Tensor, " b"],
    negatives: Float[Tensor, "b m"],
    top_k: int,
    *,
    semi_hard: bool,
) -> Float[Tensor, "b k"]:
    """Choose the best-scored negatives of each row, best first.

    Args:
        positive: Score of the right text.
        negatives: Scores of wrong ones.
        top_k: How many to choose.
        semi_hard: Choose among those below the right one, unless they are fewer than `top_k`.

    >>> one, others = torch.tensor([2.0]), torch.tensor([[3.0, 1.0, 0.0]])
    >>> hardest_negatives(one, others, 2, semi_hard=True).tolist()
    [[1.0, 0.0]]
    >>> hardest_negatives(one, others, 3, semi_hard=True).tolist()
    [[3.0, 1.0, 0.0]]

    Raises:
        ValueError: If there are not as many negatives.
    """
    if not 1 <= top_k <= negatives.shape[1]:
        raise ValueError(
            f"{top_k} of {negatives.shape[1]} negatives are to be kept; choose loss.top_k between "
            "1 and their number (left out, it is one less than the batch)"
        )
    if semi_hard:
        below = negatives < positive[:, None]
        enough = below.sum(dim=1, keepdim=True) >= top_k
        negatives = negatives.masked_fill(enough & ~below, -torch.inf)
    return negatives.topk(top_k, dim=1).values


def _best_negatives(
    logits: Tensor, positives: Tensor, count: int, *, training: bool
) -> Int[Tensor, "r n"]:
    """Find the best wrong columns; where a row has fewer, right ones fill up."""
    columns = logits.shape[1]
    if training and count > columns - 1:
        raise ValueError(
            f"the {count} best wrong texts are asked for and a row has {columns - 1}; raise "
            "data.batch_size, or ask for fewer (loss.rows)"
        )
    scores = logits.detach().masked_fill(positives, -torch.inf)
    return scores.topk(min(count, columns), dim=1).indices


def _share(label_smoothing: float) -> float:
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"label_smoothing is {label_smoothing}, expected 0 or more, below 1")
    return label_smoothing
