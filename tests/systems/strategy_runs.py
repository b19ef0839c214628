"""What one rank does in `test_strategies`: train, save, go on from everybody's checkpoint."""

import warnings
from pathlib import Path
from typing import Any

from lightning.pytorch.strategies import DDPStrategy

from medvlp.systems.contrastive import ContrastiveSystem
from medvlp.systems.fsdp2 import FSDP2Strategy
from tests.systems.tiny import (
    GLOBAL_BATCH,
    NUM_STEPS,
    MeanScore,
    Record,
    fit,
    ignore_advice,
    loader,
    make_batch,
    make_model,
    make_system,
    make_trainer,
)

STRATEGIES = ("ddp", "fsdp2")


def train(
    strategy: str, rank: int, world: int, *, resume: Path | None = None, save: Path | None = None
) -> dict[str, Any]:
    """Train three steps, or three more; every rank starts from other weights."""
    record = Record()
    system = make_system(make_model(seed=rank), evaluations={"mean": MeanScore()})
    trainer = _trainer(strategy, world, callbacks=[record], max_epochs=2 if resume else 1)
    fit(trainer, system, _batches(rank, world), ckpt_path=resume, weights_only=True)
    if save is not None:
        trainer.save_checkpoint(save)
    weights = trainer.strategy.lightning_module_state_dict()
    return {"losses": record.losses, "weights": weights, **_evaluate(system, strategy, rank, world)}


def everything(rank: int, world: int, folder: Path) -> dict[str, Any]:
    """Train under both strategies, then resume under both from all three checkpoints."""
    warnings.simplefilter("error")
    ignore_advice()
    found: dict[str, Any] = {
        name: train(name, rank, world, save=folder / f"{name}.ckpt") for name in STRATEGIES
    }
    for source in ("single", *STRATEGIES):
        for name in STRATEGIES:
            resumed = train(name, rank, world, resume=folder / f"{source}.ckpt")
            found[f"{source}->{name}"] = resumed["losses"]
    return found


def _trainer(strategy: str, world: int, **options: Any) -> Any:
    chosen: Any = "auto"
    if strategy == "ddp":
        chosen = DDPStrategy(find_unused_parameters=False, gradient_as_bucket_view=True)
    elif strategy == "fsdp2":
        chosen = FSDP2Strategy()
    return make_trainer(strategy=chosen, devices=world, gradient_clip_val=0.5, **options)


def _batches(rank: int, world: int) -> list[Any]:
    rows = GLOBAL_BATCH // world
    return [make_batch(step, slice(rank * rows, (rank + 1) * rows)) for step in range(NUM_STEPS)]


def _evaluate(system: ContrastiveSystem, strategy: str, rank: int, world: int) -> dict[str, Any]:
    with warnings.catch_warnings():
        ignore_advice()
        (figures,) = _trainer(strategy, world).validate(
            system, loader(_batches(rank, world)), verbose=False
        )
    return {"figures": figures}
