"""Both stages of HSENet in miniature, on one process or on a rank of several."""

import warnings
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, nn

from medvlp.losses.contrastive import ClipLoss
from medvlp.losses.relation import RelationLoss
from medvlp.models.hsenet_clip import HSENetCLIP
from medvlp.optim.schedules import WarmupConstant
from medvlp.systems.dual_stage import DualStageSystem
from medvlp.text.hf_encoder import HFEncoder
from medvlp.types import Tokens, TwoTowerOutput, VolumeBatch
from medvlp.vision.slice_guided_vit import SliceGuidedViT
from medvlp.vision.volume_vit import VolumeViT
from tests.systems.tiny import GLOBAL_BATCH, Record, fit, ignore_advice, make_trainer

BERT: dict[str, Any] = {
    "model_type": "bert",
    "vocab_size": 20,
    "hidden_size": 6,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 8,
    "max_position_embeddings": 12,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
RELATION_STEPS = 2


class CountedCLIP(HSENetCLIP):
    """Counts how often it is run as a whole."""

    calls = 0

    def forward(self, *inputs: Any) -> TwoTowerOutput:  # pyright: ignore
        self.calls += 1
        return super().forward(*inputs)


def make_clip(*, stage: int = 1, seed: int = 0, teacher: HSENetCLIP | None = None) -> HSENetCLIP:
    torch.manual_seed(seed)
    sizes: dict[str, Any] = {"width": 12, "depth": 2, "num_heads": 2, "mlp_dim": 24}
    guided = partial(SliceGuidedViT, slice_dim=5, slice_dropout=0.0)
    tower = guided if stage == 2 else VolumeViT
    return CountedCLIP(
        tower((4, 8, 8), (2, 4, 4), **sizes),
        HFEncoder(BERT),
        image_projection=nn.Linear(12, 8),
        text_projection=nn.Linear(6, 8),
        teacher=teacher,
    )


def make_stage2(seed: int = 1) -> HSENetCLIP:
    return make_clip(stage=2, seed=seed, teacher=make_clip(seed=seed + 10))


def make_system(model: HSENetCLIP, *, contrastive: Any = None, **options: Any) -> DualStageSystem:
    loss = contrastive or ClipLoss(gather_with_grad=True)
    if model.teacher is not None:
        loss = RelationLoss(loss, weight=0.5, num_steps=RELATION_STEPS)
    return DualStageSystem(
        model,
        loss,
        optimizer=partial(torch.optim.SGD, lr=1e-2, momentum=0.9, weight_decay=0.1),
        schedule=WarmupConstant(0),
        decayed=["raw_scale"],
        **options,
    )


def make_batch(step: int, rows: slice = slice(None), *, slices: bool = True) -> VolumeBatch:
    generator = torch.Generator().manual_seed(step)
    ids = torch.randint(1, 20, (GLOBAL_BATCH, 5), generator=generator)[rows]
    image = torch.rand(GLOBAL_BATCH, 1, 4, 8, 8, generator=generator)[rows]
    features = torch.randn(GLOBAL_BATCH, 3, 5, generator=generator)[rows]
    names = [f"step{step}_study{k}" for k in range(GLOBAL_BATCH)][rows]
    batch = VolumeBatch(
        image=image,
        num_scans=torch.ones(len(names), dtype=torch.int64),
        study_id=names,
        sample_id=names,
        patient_id=names,
        recipe_hash="tiny",
        tokens=Tokens(ids, torch.ones_like(ids, dtype=torch.bool)),
        text_study=torch.arange(len(names)),
    )
    if slices:
        batch["slice_features"] = features
    return batch


def no_init(model: nn.Module) -> None:
    """Stand for the checkpoint of the first stage: the weights stay."""


def train(
    rank: int = 0, world: int = 1, *, resume: Path | None = None, save: Path | None = None
) -> dict[str, Any]:
    """Train the second stage for two epochs of two steps; the first alone where it is saved."""
    record, local = Record(), GLOBAL_BATCH // world
    system = make_system(make_stage2(), init=None if resume else no_init)
    options: dict[str, Any] = {"callbacks": [record], "max_epochs": 1 if save else 2}
    if world > 1:
        options |= {"strategy": DDPStrategy(), "devices": world}
    trainer = make_trainer(**options)
    rows = slice(rank * local, (rank + 1) * local)
    fit(trainer, system, [make_batch(k, rows) for k in (0, 1)], ckpt_path=resume, weights_only=True)
    if save is not None:
        trainer.save_checkpoint(save)
    weights: dict[str, Tensor] = {n: t.detach() for n, t in system.model.state_dict().items()}
    teacher: Any = system.model.teacher
    return {"losses": record.losses, "weights": weights, "calls": teacher.calls}


def ranked(rank: int, world: int) -> dict[str, Any]:
    """Train on a rank of several."""
    warnings.simplefilter("error")
    ignore_advice()
    return train(rank, world)
