"""Training of two towers by one contrastive loss."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from medvlp.evaluation.protocol import Evaluation
from medvlp.layers.pos_embed import TooManyScansError
from medvlp.models.two_tower import TwoTower
from medvlp.optim.groups import NO_DECAY, OptimizerCallable
from medvlp.systems.base import BaseSystem
from medvlp.types import Tokens, TwoTowerOutput, VolumeBatch


class ContrastiveSystem(BaseSystem):
    """Image and text tower, one contrastive loss, zero-shot evaluation.

    Args:
        model: Two towers.
        loss: From the model's output and the batch to a dictionary with "total".
        optimizer: Makes the optimizer from parameter groups.
        schedule: From the coming optimizer step and their total to a factor of the base rate.
        evaluations: By the name under which their figures are logged and written.
        no_decay: Parts of the names of parameters without weight decay; None decays all.
        compile_model: Compile the training forward with `torch.compile`.
        init: Fills the model before a fresh run, see `medvlp.checkpoints.init`.
    """

    model: TwoTower

    def __init__(
        self,
        model: TwoTower,
        loss: nn.Module,
        *,
        optimizer: OptimizerCallable,
        schedule: Callable[[int, int], float],
        evaluations: dict[str, Evaluation] | None = None,
        no_decay: Sequence[str] | None = NO_DECAY,
        compile_model: bool = False,
        init: Callable[[nn.Module], Any] | None = None,
    ) -> None:
        super().__init__(
            model,
            optimizer=optimizer,
            schedule=schedule,
            evaluations=evaluations,
            no_decay=no_decay,
            compile_model=compile_model,
            init=init,
        )
        self.loss = loss

    def training_step(self, batch: VolumeBatch, batch_idx: int) -> Tensor:
        """Return the loss; `train/loss` is its mean over ranks, the global batch's.

        Raises:
            ValueError: If the batch has no texts, a study too many scans, or the loss is not
                finite.
        """
        if "tokens" not in batch:
            raise ValueError("the batch has no texts to learn from; choose a text sampler in data")
        try:
            output = self._forward(batch, batch["tokens"])
        except TooManyScansError as error:
            counts = zip(batch["study_id"], batch["num_scans"].tolist(), strict=True)
            large = [f"{name} ({count})" for name, count in counts if count > error.num_rows]
            raise ValueError(f"{error}. Studies of this batch: {', '.join(large)}") from error
        losses = self._losses(output, batch, batch["tokens"])
        self.guard.check(losses["total"], output["image_embedding"], batch["study_id"])
        logged = {("loss" if name == "total" else name): loss for name, loss in losses.items()}
        size = len(batch["study_id"])
        for name, loss in logged.items():
            bar = name == "loss"
            self.log(f"train/{name}", loss, prog_bar=bar, batch_size=size, sync_dist=True)
        for name in ("logit_scale", "second_logit_scale"):
            if name in output:
                self.log(f"train/{name}", output[name].detach().exp().squeeze())  # pyright: ignore[reportTypedDictNotRequiredAccess]
        return losses["total"]

    def after_step(self) -> None:
        """Clamp the scale."""
        self.model.clamp_logit_scale()

    def _forward(self, batch: VolumeBatch, tokens: Tokens) -> TwoTowerOutput:
        wrong = (batch["negatives"],) if "negatives" in batch else ()
        return self.model(batch["image"], batch["num_scans"], tokens, *wrong)

    def _losses(
        self, output: TwoTowerOutput, batch: VolumeBatch, tokens: Tokens
    ) -> dict[str, Tensor]:
        return self.loss(output, batch)
