"""Which parameters are decayed."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from torch import nn
from torch.optim import Optimizer

OptimizerCallable = Callable[[Iterable], Optimizer]
"""An optimizer that still needs its parameter groups, such as a partial of AdamW."""

NO_DECAY = ("bn", "ln", "bias", "logit_scale")
"""Name parts of parameters that are not decayed: the rule of HLIP's training script (v1)."""


def decay_groups(
    module: nn.Module,
    no_decay: Sequence[str] | None = NO_DECAY,
    *,
    decayed: Sequence[str] = (),
) -> list[dict[str, Any]]:
    """Split the trainable parameters into two optimizer groups: without and with weight decay.

    Vectors and scalars are not decayed (which covers every LayerNorm); nor is a parameter whose
    name contains one of `no_decay`. Frozen parameters are in neither group. The second group takes
    the optimizer's own weight decay.

    Args:
        module: Named parameters are taken from here.
        no_decay: Parts of names; None decays everything, vectors too.
        decayed: Parts of names of vectors and scalars that are decayed nevertheless.

    Raises:
        ValueError: If nothing is trainable.
    """
    groups: list[dict[str, Any]] = [{"params": [], "weight_decay": 0.0}, {"params": []}]
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            is_decayed = no_decay is None or (
                (parameter.ndim >= 2 or any(part in name for part in decayed))
                and not any(part in name for part in no_decay)
            )
            groups[is_decayed]["params"].append(parameter)
    if not any(group["params"] for group in groups):
        raise ValueError(
            f"{type(module).__name__} has no trainable parameter; unfreeze a tower or a projection"
        )
    return groups
