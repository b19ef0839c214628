"""Training of organs against what reports say of them."""

import logging
from collections.abc import Callable, Sequence
from typing import Any, Literal

from jaxtyping import Float
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn

from medvlp.distributed.sharding import whole
from medvlp.evaluation.anatomy_zero_shot import embed_organs
from medvlp.evaluation.protocol import Evaluation
from medvlp.losses.anatomy import AnatomyContrastiveLoss
from medvlp.models.fvlm import FVLM
from medvlp.optim.groups import NO_DECAY, OptimizerCallable
from medvlp.systems.anatomy_teachers import AnatomyTeacher, embed_batch
from medvlp.systems.base import BaseSystem
from medvlp.types import VolumeBatch

_LOG = logging.getLogger(__name__)
_TEACHER = "teacher."  # prefix of its weights in a checkpoint


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
        teacher: A second model, for a loss whose targets ask for one.
        compat: Of the windows, see `embed_organs`.

    Raises:
        ValueError: If the loss has other organs than the model, or asks for a teacher where there
            is none, or does not where there is.
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
        teacher: AnatomyTeacher | None = None,
        compat: Literal["published"] | None = None,
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
        self.teacher = teacher
        self.compat: Literal["published"] | None = compat
        self._num_steps = self._num_idle_steps = 0
        if isinstance(loss, AnatomyContrastiveLoss):
            self._check_loss(loss)

    def configure_model(self) -> None:
        """Fill the model, then let a teacher start from it; once.

        Raises:
            ValueError: If the strategy does not suit the teacher or the evaluations.
        """
        if self._is_configured or self._trainer is None:
            return
        self._check_strategy()
        super().configure_model()
        if self.teacher is not None:
            fresh = self.trainer.state.fn == TrainerFn.FITTING
            self.teacher.begin(self.model, self._init if fresh else None)

    def setup(self, stage: str) -> None:
        """Refuse data whose masks or texts count organs in another order.

        Raises:
            ValueError: If they do.
        """
        data = getattr(self.trainer, "datamodule", None)
        mask = getattr(getattr(data, "recipe", None), "mask", None)
        said = {"data.recipe.mask.anatomies": getattr(mask, "names", None)}
        said["data.texts.organs"] = getattr(getattr(data, "texts", None), "organs", None)
        for key, organs in said.items():
            if organs is not None and tuple(organs) != self.model.organs:
                raise ValueError(
                    f"{key} has {', '.join(organs)}, the model {', '.join(self.model.organs)}; "
                    "both must name the same organs in the same order"
                )

    def trained_module(self) -> nn.Module:
        """Train the second model of a co-teaching as well."""
        return self.model if self.teacher is None else nn.ModuleList([self.model, self.teacher])

    def training_step(self, batch: VolumeBatch, batch_idx: int) -> Tensor:
        """Return the loss; `train/loss` is its mean over ranks, `train/<organ>` this rank's.

        Raises:
            ValueError: If the batch has no masks or no texts, or the loss is not finite.
        """
        step = self.trainer.global_step
        if self.teacher is None:
            output = embed_batch(self.model, batch)
            losses = self.loss(output, batch)
        else:
            output = embed_batch(self.teacher.student(self.model, step), batch)
            said = self.teacher.tell(self.model, batch, step)
            losses = self.loss(output, batch, teacher=said)
        self.guard.check(losses["total"], output["organ_embedding"], batch["study_id"])
        self._num_steps += 1
        self._num_idle_steps += len(losses) == 1
        self._log_losses(losses, len(batch["study_id"]))
        return losses["total"]

    def after_step(self) -> None:
        """Clamp the temperature, and let the teacher follow."""
        self.model.clamp_temperature()
        if self.teacher is not None:
            self.teacher.after_step(self.model)

    def on_train_epoch_end(self) -> None:
        """Look at the last loss of the epoch before checkpoints are written; tell idle steps."""
        super().on_train_epoch_end()
        if self._num_idle_steps:
            _LOG.warning(
                "rank %d learnt nothing in %d of %d steps of epoch %d: none of the organs had an "
                "abnormal patient, and all of its voxels within the window; raise data.batch_size",
                self.global_rank,
                self._num_idle_steps,
                self._num_steps,
                self.current_epoch,
            )
        self._num_steps = self._num_idle_steps = 0

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Leave out the weights of a teacher where there is none, as in evaluation."""
        if self.teacher is None:
            weights = checkpoint["state_dict"]
            kept = {name: weights[name] for name in weights if not name.startswith(_TEACHER)}
            if len(kept) < len(weights):
                _LOG.info("%d weights of a teacher left out", len(weights) - len(kept))
            checkpoint["state_dict"] = kept

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
            compat=self.compat,
        )

    def _log_losses(self, losses: dict[str, Tensor], size: int) -> None:
        self.log("train/loss", losses["total"], prog_bar=True, batch_size=size, sync_dist=True)
        for organ, loss in losses.items():
            if organ != "total":  # no exchange: ranks may have other organs
                self.log(f"train/{organ}", loss, batch_size=size)
        self.log("train/num_organs", float(len(losses) - 1), batch_size=size)
        self.log("train/temperature", whole(self.model.temperature.detach()).squeeze())

    def _check_loss(self, loss: AnatomyContrastiveLoss) -> None:
        if loss.organs != self.model.organs:
            raise ValueError(
                f"the loss has the organs {', '.join(loss.organs)}, the model "
                f"{', '.join(self.model.organs)}; give both the same list in the same order"
            )
        if loss.targets.needs_teacher == (self.teacher is None):
            kind = type(loss.targets).__name__
            raise ValueError(
                f"the loss has {kind} and there is {'no' if self.teacher is None else 'a'} "
                "teacher; choose both together, as in loss=anatomy_co_teaching"
            )

    def _check_strategy(self) -> None:
        strategy = self.trainer.strategy
        if isinstance(strategy, ModelParallelStrategy):
            if self.teacher is not None:
                raise ValueError("a teacher cannot be sharded; train with strategy=ddp")
            if self.evaluations:
                raise ValueError(
                    "ranks that share a model have to run it equally often, which windows around "
                    "organs do not allow; evaluate with strategy=ddp or on one device"
                )
        if (
            self.teacher is not None
            and self.teacher.needs_unused_parameters
            and isinstance(strategy, DDPStrategy)
            and not strategy._ddp_kwargs.get("find_unused_parameters")
        ):
            raise ValueError(
                "one of the two models rests in every step; set "
                "trainer.strategy.find_unused_parameters=true"
            )


def _size(name: str, lengths: Sequence[int]) -> tuple[int, int, int]:
    if len(lengths) != 3 or min(lengths) < 1:
        raise ValueError(
            f"{name} is {list(lengths)}, expected three lengths (d, h, w) of 1 or more"
        )
    depth, height, width = (int(length) for length in lengths)
    return depth, height, width
