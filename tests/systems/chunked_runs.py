"""What one rank does in `test_contrastive_chunks`: train with the batch cut into chunks."""

import warnings
from typing import Any

from lightning.pytorch.strategies import DDPStrategy

from medvlp.systems.fsdp2 import FSDP2Strategy
from tests.systems.tiny import (
    GLOBAL_BATCH,
    NUM_STEPS,
    Record,
    fit,
    ignore_advice,
    make_batch,
    make_model,
    make_system,
    make_trainer,
)


def train(strategy: str, chunks: int, rank: int = 0, world: int = 1) -> dict[str, Any]:
    """Train three steps on this rank's share of the global batches."""
    model = make_model(seed=rank)
    model.forward_chunks = chunks
    record = Record()
    chosen: Any = {"ddp": DDPStrategy, "fsdp2": FSDP2Strategy}.get(strategy, lambda: "auto")()
    trainer = make_trainer(
        strategy=chosen, devices=world, callbacks=[record], gradient_clip_val=0.5
    )
    rows = slice(rank * GLOBAL_BATCH // world, (rank + 1) * GLOBAL_BATCH // world)
    fit(trainer, make_system(model), [make_batch(step, rows) for step in range(NUM_STEPS)])
    weights = trainer.strategy.lightning_module_state_dict()
    return {"losses": record.losses, "weights": weights}


def chunked(rank: int, world: int) -> dict[str, Any]:
    """Train under both strategies."""
    warnings.simplefilter("error")
    ignore_advice()
    return {name: train(name, 3, rank, world) for name in ("ddp", "fsdp2")}
