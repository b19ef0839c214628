"""Learning rates that fall at milestones, counted in epochs of so many drawn samples."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class DrawnEpochs:
    """Epochs of samplers that draw rather than walk: batches need not divide them.

    >>> epochs = DrawnEpochs(samples_per_epoch=12400, batch_size=48)
    >>> epochs.num_steps(351), epochs.epoch_of(258), epochs.epoch_of(259)
    (90816, 0, 1)

    Attributes:
        samples_per_epoch: Drawn samples that count as an epoch.
        batch_size: Samples of a step.
        resume_epoch: The epoch whose weights the run began with; -1 begins anew.

    Reference: HCL-AL (Gao et al., IEEE TMI 2025), published training.
    """

    samples_per_epoch: int
    batch_size: int
    resume_epoch: int = -1

    def __post_init__(self) -> None:
        if not 0 < self.batch_size <= self.samples_per_epoch or self.resume_epoch < -1:
            raise ValueError(
                f"an epoch of {self.samples_per_epoch} samples in batches of {self.batch_size} "
                f"from epoch {self.resume_epoch}: expected at least one batch in an epoch, and "
                "an epoch from -1"
            )

    def num_steps(self, last_epoch: int) -> int:
        """Count the steps of the run; from scratch it has one epoch more than `last_epoch`."""
        per_epoch = self.samples_per_epoch // self.batch_size
        return per_epoch * max(last_epoch - self.resume_epoch, 0)

    def epoch_of(self, step: int) -> int:
        """Name the epoch of a step, from 0."""
        return max(self.resume_epoch, 0) + step * self.batch_size // self.samples_per_epoch

    def saves(self, step: int, every: int) -> bool:
        """Tell whether weights are kept after a step: the first of every `every`th epoch.

        Those of the epoch that the run begins with are not.
        """
        epoch = self.epoch_of(step)
        return step > 0 and epoch % every == 0 and epoch != self.epoch_of(step - 1)


class MultiStep:
    """Multiply the rate by `gamma` at every milestone.

    >>> [MultiStep([1], num_epochs=2)(step, 4) for step in range(4)]
    [1.0, 1.0, 0.1, 0.1]

    Args:
        milestones: Epochs, from 0.
        gamma: Factor of each.
        num_epochs: Of the run, which then divide its steps evenly; or give `drawn`.
        drawn: How epochs are counted where samplers draw.
        compat: "published" advances the schedule after the step, as HCL-AL's code does: the first
            step of an epoch has the rate of the epoch before; and a run that begins with the
            weights of an epoch takes its first step at the base rate, times `gamma` if the epoch
            after is a milestone.

    Reference: HCL-AL (Gao et al., IEEE TMI 2025), published training.
    """

    def __init__(
        self,
        milestones: Sequence[int],
        gamma: float = 0.1,
        *,
        num_epochs: int | None = None,
        drawn: DrawnEpochs | None = None,
        compat: Literal["published"] | None = None,
    ) -> None:
        if (num_epochs is None) == (drawn is None) or (num_epochs is not None and num_epochs < 1):
            raise ValueError(
                f"num_epochs is {num_epochs} and drawn is {drawn}: give one of them, and at least "
                "one epoch"
            )
        self.milestones, self.gamma = sorted(milestones), gamma
        self.num_epochs, self.drawn = num_epochs, drawn
        self.compat: Literal["published"] | None = compat

    def __call__(self, step: int, total_steps: int) -> float:
        """Return the factor of one step."""
        if self.compat == "published":
            if step == 0:
                begun = self.drawn.resume_epoch + 1 if self.drawn is not None else 0
                return self.gamma ** self.milestones.count(begun)
            step -= 1
        epoch = self._epoch(step, total_steps)
        return self.gamma ** sum(milestone <= epoch for milestone in self.milestones)

    def _epoch(self, step: int, total_steps: int) -> int:
        if self.drawn is not None:
            return self.drawn.epoch_of(step)
        assert self.num_epochs is not None
        return step * self.num_epochs // max(1, total_steps)
