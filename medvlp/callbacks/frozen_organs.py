"""Train new organs of a model while those that it knew stay as they are."""

from collections.abc import Sequence
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor

from medvlp.models.fvlm import FVLM

_OWN = ("pooling.query", "pooling.projections.")


class FrozenOrgans(Callback):
    """Keep the queries and projections of some organs through training, bit by bit.

    Neither gradients, nor momentum, nor weight decay move them. Embeddings of these organs still
    change where what all organs share is trained.

    Args:
        organs: To be kept, names of the model's.
        shared: Keep also what all organs share: towers, attention, text projection and
            temperature. Then these organs' scores stay bit by bit, and only new ones learn.
    """

    def __init__(self, organs: Sequence[str], *, shared: bool = True) -> None:
        self.organs = tuple(organs)
        self.shared = shared
        self._kept: Tensor | None = None

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Take what is kept out of training, before there is an optimizer.

        Raises:
            ValueError: If the model does not know the organs, knows no others, or is sharded.
        """
        if stage != "fit":
            return
        if isinstance(trainer.strategy, ModelParallelStrategy):
            raise ValueError(
                "frozen organs are rows of one parameter, which this strategy cuts up; choose "
                "strategy=auto or strategy=ddp"
            )
        model = _model_of(pl_module)
        rows = self._rows(model)
        if self.shared:
            for name, parameter in model.named_parameters():
                parameter.requires_grad_(name.startswith(_OWN))
        for row in rows:
            model.pooling.projections[row].requires_grad_(False)
        free = torch.ones(len(model.organs), 1)
        free[rows] = 0
        model.pooling.query.register_hook(lambda gradient: gradient * free.to(gradient))

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Remember the queries, which by now are those of the checkpoint that training goes on."""
        model = _model_of(pl_module)
        self._kept = model.pooling.query.detach()[self._rows(model)].clone()

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Put the queries back: weight decay moves whole parameters, not rows."""
        model = _model_of(pl_module)
        assert self._kept is not None
        with torch.no_grad():
            model.pooling.query[self._rows(model)] = self._kept

    def _rows(self, model: FVLM) -> list[int]:
        unknown = sorted(set(self.organs) - set(model.organs))
        if unknown or not self.organs or set(self.organs) == set(model.organs):
            raise ValueError(
                f"organs to be kept are {', '.join(self.organs) or 'none'}, the model's "
                f"{', '.join(model.organs)}; name some of these, and leave at least one to train"
            )
        return [model.organs.index(organ) for organ in self.organs]


def _model_of(pl_module: pl.LightningModule) -> FVLM:
    model = pl_module.model
    if not isinstance(model, FVLM):
        raise ValueError(f"frozen organs need a model of organs, this is a {type(model).__name__}")
    return model
