"""Training of organs against what reports say of them."""

from collections.abc import Callable, Sequence
from typing import Any

from jaxtyping import Float
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor, nn
from torch.optim import Optimizer

from medvlp.evaluation.anatomy_zero_shot import embed_organs
from medvlp.evaluation.protocol import Evaluation
from medvlp.models.fvlm import FVLM
from medvlp.optim.groups import NO_DECAY, OptimizerCallable
from medvlp.systems.base import BaseSystem
from medvlp.systems.finite_guard import FiniteGuard
from medvlp.types import VolumeBatch


class AnatomySystem(BaseSystem):
    """A model of organs, an anatomy-wise loss, evaluation of findings in their organs.

    Evaluations receive the embeddings of all organs, (b o e), with NaN for absent ones.

    Args:
        model: Embeds organs and texts.
        loss: From the model's output and the batch to a dictionary with "total" and, by name, the
            loss of each organ that was used.
        optimizer: Makes the optimizer from parameter groups.
        schedule: From the coming optimizer step and their total to a factor of the base rate.
        evaluations: By the name under which their figures are logged and written.
        no_decay: Parts of the names of parameters without weight decay; None decays all.
        compile_model: Compile the training forward with `torch.compile`.
        init: Fills the model before a fresh run, see `medvlp.checkpoints.init`.
        window: Smallest size (d, h, w) of the part of a volume in which an evaluation looks at an
            organ; None for the whole volume.
        multiple: An evaluation pads each axis to a multiple of this: the patch size.
    """

    model: FVLM

    def __init__(
        self,
        model: FVLM,
        loss: nn.Module,
        *,
        optimizer: OptimizerCallable,
        schedule: Callable[[int, int], float],
        evaluations: dict[str, Evaluation] | None = None,
        no_decay: Sequence[str] | None = NO_DECAY,
        compile_model: bool = False,
        init: Callable[[nn.Module], Any] | None = None,
        window: Sequence[int] | None = (112, 288, 352),
        multiple: Sequence[int] = (16, 16, 32),
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
        self.window = None if window is None else _size("window", window)
        self.multiple = _size("multiple", multiple)
        self.guard = FiniteGuard()

    def training_step(self, batch: VolumeBatch, batch_idx: int) -> Tensor:
        """Return the loss; `train/loss` is its mean over ranks, `train/<organ>` this rank's.

        Raises:
            ValueError: If the batch has no masks or no texts, or the loss is not finite.
        """
        if "tokens" not in batch or "anatomy_mask" not in batch:
            raise ValueError(
                "the batch has no texts or no anatomy_mask: this system learns organs from texts "
                "about them; choose data.texts of organs and a recipe with organ masks"
            )
        mask, tokens = batch["anatomy_mask"], batch["tokens"]
        output = self.model(batch["image"], batch["num_scans"], mask, tokens, intact_only=True)
        losses = self.loss(output, batch)
        self.guard.check(losses["total"], output["organ_embedding"], batch["study_id"])
        self._log_losses(losses, len(batch["study_id"]))
        return losses["total"]

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: Optimizer | LightningOptimizer,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        """Step, then clamp the temperature: before any checkpoint of this step is written."""
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        self.model.clamp_temperature()

    def on_train_epoch_end(self) -> None:
        """Look at the last loss of the epoch before checkpoints are written."""
        self.guard.settle()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Never write weights that a non-finite loss has reached."""
        self.guard.settle()

    def _embed(self, batch: VolumeBatch) -> Float[Tensor, "b o e"]:
        if "anatomy_mask" not in batch:
            raise ValueError(
                "the batch has no anatomy_mask, in which organs would be looked at; choose a "
                "recipe with organ masks, and prepare the data with them"
            )
        return embed_organs(
            self.model.embed_image,
            batch["image"],
            batch["anatomy_mask"],
            num_organs=len(self.model.organs),
            window=self.window,
            multiple=self.multiple,
        )

    def _log_losses(self, losses: dict[str, Tensor], size: int) -> None:
        self.log("train/loss", losses["total"], prog_bar=True, batch_size=size, sync_dist=True)
        for organ, loss in losses.items():
            if organ != "total":  # no exchange: ranks may have other organs
                self.log(f"train/{organ}", loss, batch_size=size)
        self.log("train/temperature", self.model.temperature.detach().squeeze())


def _size(name: str, lengths: Sequence[int]) -> tuple[int, int, int]:
    if len(lengths) != 3 or min(lengths) < 1:
        raise ValueError(
            f"{name} is {list(lengths)}, expected three lengths (d, h, w) of 1 or more"
        )
    depth, height, width = (int(length) for length in lengths)
    return depth, height, width
