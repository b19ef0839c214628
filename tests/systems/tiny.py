"""A two-tower system small enough to train in milliseconds, and batches for it."""

import math
import warnings
from collections.abc import Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.fabric.utilities.warnings import PossibleUserWarning
from torch import Tensor, nn
from torch.utils.data import DataLoader

from medvlp.evaluation.protocol import Evaluation
from medvlp.losses.label_aware import StatementClipLoss
from medvlp.models.two_tower import TwoTower
from medvlp.optim.schedules import WarmupCosine
from medvlp.systems.contrastive import ContrastiveSystem
from medvlp.types import Tokens, VolumeBatch

WIDTH = 6
NUM_STEPS = 3
GLOBAL_BATCH = 8


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.linear = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.tanh(self.linear(self.norm(x)))


class Vision(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(8, WIDTH)
        self.blocks = nn.ModuleList([Block(), Block()])

    def forward(self, image: Tensor, num_scans: Tensor) -> Tensor:
        scans = self.stem(image.flatten(1))
        for block in self.blocks:
            scans = block(scans)
        return torch.stack([part.mean(0) for part in scans.split(num_scans.tolist())])


class Text(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, WIDTH)
        self.blocks = nn.ModuleList([Block()])

    def forward(self, tokens: Tokens) -> Tensor:
        x = self.blocks[0](self.embed(tokens.input_ids))
        keep = tokens.attention_mask[..., None].float()
        return (x * keep).sum(1) / keep.sum(1)


def make_model(seed: int = 0) -> TwoTower:
    torch.manual_seed(seed)
    return TwoTower(
        Vision(),
        Text(),
        image_projection=nn.Linear(WIDTH, 4, bias=False),
        text_projection=nn.Linear(WIDTH, 4, bias=False),
        logit_scale_init=math.log(100.0) - 0.003,
    )


def make_system(
    model: TwoTower | None = None, *, loss: nn.Module | None = None, evaluations: Any = None
) -> ContrastiveSystem:
    return ContrastiveSystem(
        model or make_model(),
        loss or StatementClipLoss(),
        optimizer=partial(torch.optim.AdamW, lr=1e-2, betas=(0.9, 0.98), weight_decay=0.2),
        schedule=WarmupCosine(2),
        evaluations=evaluations,
    )


def make_batch(step: int, rows: slice = slice(None)) -> VolumeBatch:
    """Draw global batch `step`; every second study has two scans, some share a report."""
    generator = torch.Generator().manual_seed(step)
    num_scans = torch.tensor([1, 2] * (GLOBAL_BATCH // 2))
    scans = torch.randn(int(num_scans.sum()), 1, 2, 2, 2, generator=generator)
    ids = torch.randint(1, 20, (GLOBAL_BATCH, 5), generator=generator)
    statements = torch.randint(0, 4, (GLOBAL_BATCH, 1), generator=generator)
    names = [f"step{step}_study{k}" for k in range(GLOBAL_BATCH)]
    tokens = Tokens(ids[rows], (ids > 2)[rows] | (torch.arange(5) == 0))
    count = len(names[rows])
    return VolumeBatch(
        image=torch.cat(scans.split(num_scans.tolist())[rows]),
        num_scans=num_scans[rows],
        study_id=names[rows],
        sample_id=names[rows],
        patient_id=names[rows],
        recipe_hash="tiny",
        tokens=tokens,
        text_study=torch.arange(count),
        text_statements=statements[rows],
        study_statements=statements[rows],
    )


def loader(batches: Sequence[VolumeBatch]) -> DataLoader:
    return DataLoader(batches, batch_size=None)  # pyright: ignore[reportArgumentType]


class MeanScore(Evaluation):
    """An evaluation: the mean similarity of studies to one text, and what it was made of."""

    def __init__(self) -> None:
        self._rows: list[dict[str, Any]] = []

    def prepare(self, embed_text: Any, logit_scale: Tensor, device: torch.device) -> None:
        self.text = embed_text(Tokens(torch.tensor([[3, 4]]), torch.ones(1, 2, dtype=torch.bool)))
        self.scale = logit_scale.exp()

    def update(self, image_embedding: Tensor, batch: VolumeBatch) -> None:
        scores = (self.scale * image_embedding @ self.text[0]).tolist()
        self._rows += [
            {"sample_id": name, "scores": [score]}
            for name, score in zip(batch["sample_id"], scores, strict=True)
        ]

    def rows(self) -> list[dict[str, Any]]:
        return list(self._rows)

    def compute(self, rows: list[dict[str, Any]]) -> Any:
        unique = {row["sample_id"]: row["scores"][0] for row in rows}
        figures = {"mean": sum(unique.values()) / len(unique), "num_samples": float(len(unique))}
        return SimpleNamespace(metrics=lambda: figures)

    @property
    def class_names(self) -> list[str]:
        return ["mean"]

    def reset(self) -> None:
        self._rows = []


class Record(pl.Callback):
    """Keeps the logged losses and the learning rates."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.rates: list[float] = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        self.losses.append(float(trainer.callback_metrics["train/loss"]))


def make_trainer(**options: Any) -> pl.Trainer:
    settings: dict[str, Any] = {
        "accelerator": "cpu",
        "devices": 1,
        "max_epochs": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "use_distributed_sampler": False,
        "num_sanity_val_steps": 0,
    }
    return pl.Trainer(**settings | options)


def fit(trainer: pl.Trainer, system: pl.LightningModule, batches: Any, **options: Any) -> None:
    """Fit without what Lightning says about few workers, absent loaders and its own pytrees."""
    with warnings.catch_warnings():
        ignore_advice()
        trainer.fit(system, loader(batches), **options)


def ignore_advice() -> None:
    warnings.simplefilter("ignore", PossibleUserWarning)
    warnings.filterwarnings("ignore", ".*LeafSpec", FutureWarning)
