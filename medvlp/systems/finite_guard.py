"""Stopping a run whose loss is not a number, with the names of the studies."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

MAX_NAMES = 8


class _Pending(NamedTuple):
    """Flags of one step: the loss, then each study's embedding."""

    finite: Bool[Tensor, " flags"]
    study_id: Sequence[str]
    copied: torch.cuda.Event | None


class FiniteGuard:
    """Raise on a non-finite loss: at once on the CPU, one step later on a GPU.

    On a GPU the flags travel to the host beside the computation and are read when the next step
    comes, so that the guard never waits for the device.
    """

    def __init__(self) -> None:
        self._pending: _Pending | None = None

    def check(
        self, loss: Float[Tensor, ""], embedding: Float[Tensor, "b ..."], study_id: Sequence[str]
    ) -> None:
        """Look at the loss of this step, or leave a note to look at it later.

        Raises:
            ValueError: If the loss of this step or of the one before is not finite.
        """
        self.settle()
        rows = embedding.detach().flatten(1).isfinite().all(dim=1)
        finite = torch.cat([loss.detach().isfinite().reshape(1), rows])
        copied = None
        if finite.is_cuda:
            finite = finite.to("cpu", non_blocking=True)
            copied = torch.cuda.Event()
            copied.record()
        self._pending = _Pending(finite, study_id, copied)
        if copied is None:
            self.settle()

    def settle(self) -> None:
        """Look at what is noted.

        Raises:
            ValueError: If that loss was not finite.
        """
        if self._pending is None:
            return
        finite, study_id, copied = self._pending
        self._pending = None
        if copied is not None:
            copied.synchronize()
        loss_is_finite, *rows = finite.tolist()
        if loss_is_finite:
            return
        broken = [name for name, is_finite in zip(study_id, rows, strict=True) if not is_finite]
        what = "studies whose image embedding is not finite" if broken else "studies of this rank"
        names = broken or list(study_id)
        more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
        raise ValueError(
            f"the training loss is not finite; {what}: {', '.join(names[:MAX_NAMES])}{more}. "
            "Look at their scans and texts; if they are sound, lower optim.lr, clip gradients "
            "(trainer.gradient_clip_val=1.0) or train in a wider precision; resume from a "
            "checkpoint before this step"
        )
