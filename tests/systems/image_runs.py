"""What one rank does in `test_image_ranks`: CLIP's ViT under both strategies."""

import warnings
from functools import partial
from typing import Any

import torch
from lightning.pytorch.strategies import DDPStrategy

from medvlp.losses.contrastive import ClipLoss
from medvlp.optim.schedules import WarmupCosine
from medvlp.systems.contrastive import ContrastiveSystem
from medvlp.systems.fsdp2 import FSDP2Strategy
from medvlp.types import ImageBatch, Tokens
from tests.checkpoints.synthetic import TEXT, make_unimed_clip
from tests.systems.tiny import Record, fit, ignore_advice, make_trainer

NUM_IMAGES, NUM_STEPS = 8, 2
LENGTHS = [2, 12, 3, 4, 9, 2, 3, 11]
STILL = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def train(strategy: str, rank: int = 0, world: int = 1) -> dict[str, Any]:
    """Train two steps on this rank's share, recomputing blocks and encoding texts in groups."""
    model = make_unimed_clip(text=TEXT | STILL).train()
    model.vision.activation_checkpointing = True
    model.text.length_groups = 2
    record, loss = Record(), ClipLoss(local_loss=True, gather_with_grad=True)
    chosen: Any = {"ddp": DDPStrategy, "fsdp2": FSDP2Strategy}.get(strategy, lambda: "auto")()
    trainer = make_trainer(strategy=chosen, devices=world, callbacks=[record])
    batches = [_batch(step, rank, world) for step in range(NUM_STEPS)]
    # Adam would scale up the rounding noise that is all the gradient of key biases
    descent = partial(torch.optim.SGD, lr=0.05)
    fit(
        trainer,
        ContrastiveSystem(model, loss, optimizer=descent, schedule=WarmupCosine(1)),
        batches,
    )
    weights = trainer.strategy.lightning_module_state_dict()
    return {"losses": record.losses, "weights": weights}


def both_strategies(rank: int, world: int) -> dict[str, Any]:
    """Train under DDP and sharded."""
    warnings.simplefilter("error")
    ignore_advice()
    return {strategy: train(strategy, rank, world) for strategy in ("ddp", "fsdp2")}


def _batch(step: int, rank: int, world: int) -> Any:
    generator = torch.Generator().manual_seed(step)
    image = torch.randn(NUM_IMAGES, 3, 32, 32, generator=generator)
    mask = torch.arange(12) < torch.tensor(LENGTHS)[:, None]
    ids = torch.randint(1, 20, mask.shape, generator=generator) * mask
    rows = slice(rank * NUM_IMAGES // world, (rank + 1) * NUM_IMAGES // world)
    names = [f"image{number}" for number in range(NUM_IMAGES)][rows]
    return ImageBatch(
        image=image[rows],
        num_scans=torch.ones(len(names), dtype=torch.int64),
        study_id=names,
        sample_id=names,
        patient_id=names,
        recipe_hash="tiny",
        labels=torch.zeros(len(names), 0, dtype=torch.int64),
        metadata=[{} for _ in names],
        tokens=Tokens(ids[rows], mask[rows]),
        text_study=torch.arange(len(names)),
    )
