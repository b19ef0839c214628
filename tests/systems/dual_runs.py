"""What one rank does in `test_contrastive_ranks`: two-token models under both strategies."""

import math
import warnings
from functools import partial
from typing import Any

import torch
from lightning.pytorch.strategies import DDPStrategy

from medvlp.losses.contrastive import ClipLoss
from medvlp.losses.dual import DualTokenLoss
from medvlp.optim.schedules import WarmupCosine
from medvlp.systems.contrastive import ContrastiveSystem
from medvlp.systems.fsdp2 import FSDP2Strategy
from medvlp.text.lora import LoRA
from medvlp.types import TextKind, VolumeBatch
from tests.models.dual_towers import draw_study_inputs, make_dual_model
from tests.systems.tiny import Record, fit, ignore_advice, make_trainer

NUM_SCANS = [2, 1, 3, 1, 1, 2]
NUM_STEPS = 2
MODELS: dict[str, dict[str, Any]] = {
    "plain": {},
    "recomputed in chunks": {"nested": True, "forward_chunks": 2},
    "locked text": {"freeze": "all_but_layer_norm"},
    "low rank in chunks": {"freeze": "all", "lora": LoRA(2, alpha=2), "forward_chunks": 3},
}


def train(strategy: str, options: dict[str, Any], rank: int = 0, world: int = 1) -> dict[str, Any]:
    """Train two steps on this rank's share of the global batches."""
    record = Record()
    system = ContrastiveSystem(
        make_dual_model(**options),
        DualTokenLoss(ClipLoss(local_loss=True, gather_with_grad=True)),
        optimizer=partial(torch.optim.SGD, lr=0.05),
        schedule=WarmupCosine(1),
    )
    chosen: Any = {"ddp": DDPStrategy, "fsdp2": FSDP2Strategy}.get(strategy, lambda: "auto")()
    trainer = make_trainer(
        strategy=chosen, devices=world, callbacks=[record], gradient_clip_val=1.0
    )
    fit(trainer, system, [_batch(step, rank, world) for step in range(NUM_STEPS)])
    weights = trainer.strategy.lightning_module_state_dict()
    assert all(math.isfinite(loss) for loss in record.losses)
    return {"losses": record.losses, "weights": weights}


def every_model(rank: int, world: int) -> dict[str, Any]:
    """Train every model under DDP, one also sharded."""
    warnings.simplefilter("error")
    ignore_advice()
    found = {f"{name}, ddp": train("ddp", MODELS[name], rank, world) for name in MODELS}
    sharded = "recomputed in chunks"
    found[f"{sharded}, fsdp2"] = train("fsdp2", MODELS[sharded], rank, world)
    return found


def _batch(step: int, rank: int, world: int) -> VolumeBatch:
    image, tokens = draw_study_inputs(NUM_SCANS, seed=step)
    size = len(NUM_SCANS) // world
    rows, texts = (
        slice(rank * size, (rank + 1) * size),
        slice(2 * rank * size, 2 * (rank + 1) * size),
    )
    names = [f"study{k}" for k in range(len(NUM_SCANS))][rows]
    return VolumeBatch(
        image=torch.cat(image.split(NUM_SCANS)[rows]),
        num_scans=torch.tensor(NUM_SCANS[rows]),
        study_id=names,
        sample_id=names,
        patient_id=names,
        recipe_hash="tiny",
        tokens=type(tokens)(*(part[texts] for part in tokens)),
        text_study=torch.arange(size).repeat_interleave(2),
        text_kind=torch.tensor([TextKind.SENTENCE, TextKind.FINDINGS] * size),
    )
