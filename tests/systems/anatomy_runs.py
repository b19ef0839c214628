"""Training of organs on ranks that hold different ones, for tests that compare ranks."""

from functools import partial
from typing import Any

import torch
from lightning.pytorch.strategies import DDPStrategy

from medvlp.losses.anatomy import AnatomyContrastiveLoss
from medvlp.losses.anatomy_targets import CoTeachingTargets
from medvlp.systems.anatomy_teachers import CoTeaching
from tests.systems.anatomy_tiny import ORGANS, make_batch, make_model, make_system
from tests.systems.tiny import Record, fit, ignore_advice, make_trainer

# Studies 2 and 3 are those of the second rank: without a heart, without anything, all normal.
STEPS: list[dict[str, Any]] = [
    {"absent": [(2, 1), (3, 1)]},
    {"absent": [(study, organ) for study in (2, 3) for organ in range(3)]},
    {"normal": True},
    {},
]


def train(
    gradient: Any, rows: slice = slice(None), *, co_teaching: bool = False, **trainer: Any
) -> dict[str, Any]:
    """Train and return the losses and the weights of the model."""
    targets = CoTeachingTargets() if co_teaching else None
    system = make_system(
        loss=AnatomyContrastiveLoss(ORGANS, gradient=gradient, targets=targets),
        teacher=CoTeaching(make_model(1)) if co_teaching else None,
        optimizer=partial(torch.optim.SGD, lr=0.05),  # AdamW makes steps of rounding errors
    )
    if trainer:
        trainer["strategy"] = DDPStrategy(
            process_group_backend="gloo", find_unused_parameters=co_teaching
        )
    record = Record()
    batches = [make_batch(step, rows, **options) for step, options in enumerate(STEPS)]
    fit(make_trainer(callbacks=[record], **trainer), system, batches)
    weights = torch.cat([weight.detach().flatten() for weight in system.model.parameters()])
    return {"losses": record.losses, "weights": weights}


def every_run(rank: int, world: int) -> dict[str, Any]:
    """Train in all ways on one rank of several."""
    ignore_advice()
    rows = slice(2 * rank, 2 * rank + 2)
    return {
        "full": train("full", rows, devices=world),
        "published": train("published", rows, devices=world),
        "co_teaching": train("full", rows, co_teaching=True, devices=world),
    }
