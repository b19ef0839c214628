"""Learning rates as factors of the base rate: `(step, total_steps) -> factor`.

`step` is the index of the coming optimizer step, from 0. All schedules warm up linearly: step t of
the first w has the factor (t + 1) / w, but for `WarmupShareCosine`, which starts at 0, and
`WarmupEpochCosine`, which starts at a factor given.
"""

import math
from collections.abc import Callable

Schedule = Callable[[int, int], float]


class WarmupConstant:
    """Warm up, then stay at the base rate.

    >>> [WarmupConstant(warmup_steps=2)(step, 4) for step in range(4)]
    [0.5, 1.0, 1.0, 1.0]
    """

    def __init__(self, warmup_steps: int) -> None:
        if warmup_steps < 0:
            raise ValueError(f"warmup_steps is {warmup_steps}; it must be at least 0")
        self.warmup_steps = warmup_steps

    def __call__(self, step: int, total_steps: int) -> float:
        """Return the factor of one step."""
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        return self.after_warmup(step, total_steps)

    def after_warmup(self, step: int, total_steps: int) -> float:
        """Return the factor of a step >= `warmup_steps`."""
        return 1.0


class WarmupCosine(WarmupConstant):
    """Warm up, then fall to 0 along half a cosine.

    >>> [round(WarmupCosine(warmup_steps=1)(step, 4), 2) for step in range(4)]
    [1.0, 1.0, 0.75, 0.25]
    """

    def after_warmup(self, step: int, total_steps: int) -> float:
        """Return the factor of a step >= `warmup_steps`."""
        span = max(1, total_steps - self.warmup_steps)
        progress = min(1.0, (step - self.warmup_steps) / span)
        return 0.5 * (1 + math.cos(math.pi * progress))


class WarmupShareCosine:
    """Warm up from 0 over a share of the run, then fall to 0 along half a cosine.

    As the trainer of Hugging Face's transformers does with a warm-up ratio: the first step has the
    rate 0, and the length of the warm-up is rounded up.

    >>> [round(WarmupShareCosine(warmup_share=0.3)(step, 6), 2) for step in range(6)]
    [0.0, 0.5, 1.0, 0.85, 0.5, 0.15]

    Args:
        warmup_share: Of the steps of the run, from 0 to 1.
    """

    def __init__(self, warmup_share: float) -> None:
        if not 0 <= warmup_share <= 1:
            raise ValueError(f"warmup_share is {warmup_share}, expected a share between 0 and 1")
        self.warmup_share = warmup_share

    def __call__(self, step: int, total_steps: int) -> float:
        """Return the factor of one step."""
        warmup = math.ceil(self.warmup_share * total_steps)
        if step < warmup:
            return step / warmup
        return WarmupCosine(warmup).after_warmup(step, total_steps)


class WarmupCooldown(WarmupConstant):
    """Warm up, stay at the base rate, and fall along a power in the last steps.

    >>> [WarmupCooldown(warmup_steps=1, cooldown_steps=2)(step, 4) for step in range(4)]
    [1.0, 1.0, 1.0, 0.5]

    Args:
        warmup_steps: Length of the warmup.
        cooldown_steps: Length of the fall at the end.
        power: 1 falls linearly.
        end_factor: What would be reached at `total_steps`, as a share of the base rate.
    """

    def __init__(
        self, warmup_steps: int, *, cooldown_steps: int, power: float = 1.0, end_factor: float = 0.0
    ) -> None:
        super().__init__(warmup_steps)
        if cooldown_steps < 1:
            raise ValueError(
                f"cooldown_steps is {cooldown_steps}; it must be at least 1, "
                "or use schedule=constant"
            )
        self.cooldown_steps = cooldown_steps
        self.power = power
        self.end_factor = end_factor

    def after_warmup(self, step: int, total_steps: int) -> float:
        """Return the factor of a step >= `warmup_steps`."""
        done = step - (total_steps - self.cooldown_steps)
        if done < 0:
            return 1.0
        left = max(0.0, 1 - done / self.cooldown_steps)
        return left**self.power * (1 - self.end_factor) + self.end_factor


class WarmupEpochCosine(WarmupConstant):
    """Warm up within the first epoch; then one rate per epoch, falling along half a cosine.

    A warmup that is longer than the first epoch is cut off at its end.

    >>> schedule = WarmupEpochCosine(warmup_steps=1, num_epochs=2, start_factor=0.5)
    >>> [round(schedule(step, 4), 2) for step in range(4)]
    [0.5, 1.0, 0.5, 0.5]

    Args:
        warmup_steps: From the first step at `start_factor` to the first at the base rate.
        num_epochs: Of the run; the steps of an epoch are their share of `total_steps`.
        start_factor: Of the first step, as a share of the base rate.
        end_factor: What would be reached after the last epoch, likewise.

    Reference: github.com/alibaba-damo-academy/fvlm.
    """

    def __init__(
        self,
        warmup_steps: int,
        *,
        num_epochs: int,
        start_factor: float = 0.0,
        end_factor: float = 0.0,
    ) -> None:
        super().__init__(warmup_steps)
        if num_epochs < 1:
            raise ValueError(f"num_epochs is {num_epochs}; it must be at least 1")
        self.num_epochs = num_epochs
        self.start_factor = start_factor
        self.end_factor = end_factor

    def __call__(self, step: int, total_steps: int) -> float:
        """Return the factor of one step."""
        epoch = step * self.num_epochs // max(1, total_steps)
        return self.at(epoch, step)

    def at(self, epoch: int, step: int) -> float:
        """Return the factor of a step of an epoch, both from 0; `step` matters in epoch 0 only."""
        if epoch == 0:
            progress = min(1.0, step / max(1, self.warmup_steps))
            return self.start_factor + (1 - self.start_factor) * progress
        fall = 0.5 * (1 + math.cos(math.pi * min(epoch, self.num_epochs) / self.num_epochs))
        return self.end_factor + (1 - self.end_factor) * fall
