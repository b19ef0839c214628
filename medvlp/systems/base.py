"""What all systems share: optimizer and schedule, sharding, the evaluation loops."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

import lightning.pytorch as pl
import torch
from jaxtyping import Float, Int
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.strategies import ModelParallelStrategy
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from medvlp.distributed.gather import gather_objects
from medvlp.distributed.sharding import shard, whole
from medvlp.evaluation.protocol import Evaluation
from medvlp.evaluation.results import Results
from medvlp.optim.groups import NO_DECAY, OptimizerCallable, decay_groups
from medvlp.systems.finite_guard import FiniteGuard
from medvlp.systems.frozen_start import FrozenStart
from medvlp.types import Tokens, VolumeBatch

EMBEDDING_METHODS = ("embed_image", "embed_text")


class EmbeddingModel(Protocol):
    """What evaluations need of a model."""

    logit_scale: Float[Tensor, "1"]

    def embed_image(
        self, image: Float[Tensor, "n c *d h w"], num_scans: Int[Tensor, " b"]
    ) -> Float[Tensor, "b e"]:
        """Embed studies; unit length."""
        ...

    def embed_text(self, tokens: Tokens) -> Float[Tensor, "t e"]:
        """Embed texts; unit length."""
        ...


class BaseSystem(pl.LightningModule):
    """Everything around a training step; subclasses add `training_step`.

    Args:
        model: Trained and evaluated; an `EmbeddingModel` if there are evaluations.
        optimizer: Makes the optimizer from parameter groups.
        schedule: From the coming optimizer step and their total to a factor of the base rate.
        evaluations: By the name under which their figures are logged and written.
        no_decay: Parts of the names of parameters without weight decay; None decays all.
        compile_model: Compile the training forward with `torch.compile`.
        init: Fills the model before training, on every rank alike; leave it out on resuming, as
            `medvlp.train` does. With a true attribute `in_evaluation` also for evaluations.

    Attributes:
        guard: Is told of every loss of a training step, and ends the run if one is not finite.
        results: What the last validation or test found, by name of the evaluation.
        weights_path: The file that `init` filled the model from for an evaluation.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        optimizer: OptimizerCallable,
        schedule: Callable[[int, int], float],
        evaluations: dict[str, Evaluation] | None = None,
        no_decay: Sequence[str] | None = NO_DECAY,
        compile_model: bool = False,
        init: Callable[[nn.Module], Any] | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.schedule = schedule
        self.evaluations = evaluations or {}
        self.no_decay = None if no_decay is None else tuple(no_decay)
        self.compile_model = compile_model
        self.guard = FiniteGuard()
        self.results: dict[str, Results] = {}
        self.weights_path: Path | None = None
        self._init = init
        self._make_optimizer = optimizer
        self._is_configured = False

    def configure_model(self) -> None:
        """Fill a fresh model, shard it where the strategy asks for it, compile it; all once."""
        if self._is_configured or self._trainer is None:
            return
        self._is_configured = True
        self._fill_fresh_model()
        strategy = self.trainer.strategy
        if isinstance(strategy, ModelParallelStrategy):
            self.model.to(strategy.root_device)
            methods = [name for name in EMBEDDING_METHODS if hasattr(self.model, name)]
            shard(self.model, strategy.device_mesh["data_parallel"], forward_methods=methods)
        if self.compile_model:
            self.model.compile()  # in place: names of weights stay as they are

    def trained_module(self) -> nn.Module:
        """Say whose parameters the optimizer gets."""
        return self.model

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Split what is trained into parameters without and with weight decay."""
        return decay_groups(self.trained_module(), self.no_decay)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Build two parameter groups, the optimizer, and its rate per optimizer step.

        Raises:
            ValueError: If the Trainer does not say when training ends.
        """
        total = self.trainer.estimated_stepping_batches
        if math.isinf(total):
            raise ValueError(
                "the learning-rate schedule needs the number of steps, and the run has no end; "
                "set trainer.max_epochs or trainer.max_steps"
            )
        optimizer = self._make_optimizer(self.parameter_groups())
        scheduler = LambdaLR(optimizer, lambda step: self.schedule(step, int(total)))
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: Optimizer | LightningOptimizer,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        """Step, then do what follows: before any checkpoint of this step is written."""
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        self.after_step()

    def after_step(self) -> None:
        """Change weights after a step; here none."""

    def on_train_epoch_end(self) -> None:
        """Look at the last loss of the epoch before checkpoints are written."""
        self.guard.settle()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Never write weights that a non-finite loss has reached."""
        self.guard.settle()

    def on_validation_epoch_start(self) -> None:
        """Encode the prompts with the weights of this moment."""
        self._start_evaluations()

    def validation_step(self, batch: VolumeBatch, batch_idx: int) -> None:
        """Score a batch."""
        self._update_evaluations(batch)

    def on_validation_epoch_end(self) -> None:
        """Log the figures as `val/<evaluation>/<metric>`, equal on all ranks."""
        self._finish_evaluations("val")

    def on_test_epoch_start(self) -> None:
        """Encode the prompts."""
        self._require_evaluations()
        self._start_evaluations()

    def test_step(self, batch: VolumeBatch, batch_idx: int) -> None:
        """Score a batch."""
        self._update_evaluations(batch)

    def on_test_epoch_end(self) -> None:
        """Log the figures as `test/<evaluation>/<metric>`; the whole is in `results`."""
        self._finish_evaluations("test")

    def on_predict_epoch_start(self) -> None:
        """Encode the prompts."""
        self._require_evaluations()
        self._start_evaluations()

    def predict_step(self, batch: VolumeBatch, batch_idx: int) -> dict[str, Any]:
        """Score a batch by the first evaluation.

        Returns:
            sample_id, study_id, num_scans: one per study; class_names: of the scores;
            probabilities: for each study one number per class.
        """
        evaluation = next(iter(self.evaluations.values()))
        evaluation.reset()
        evaluation.update(self._embed(batch), batch)
        return {
            "class_names": evaluation.class_names,
            "sample_id": list(batch["sample_id"]),
            "study_id": list(batch["study_id"]),
            "num_scans": batch["num_scans"].tolist(),
            "probabilities": [row["scores"] for row in evaluation.rows()],
        }

    def _fill_fresh_model(self) -> None:
        training = self.trainer.state.fn == TrainerFn.FITTING
        start = FrozenStart(self.model)
        if self._init is not None and (training or getattr(self._init, "in_evaluation", False)):
            with torch.device("cpu"):  # Lightning may have made another device the default
                self._init(self.model)
            self.weights_path = None if training else getattr(self._init, "path", None)
        if training and self.trainer.ckpt_path is None and self.trainer.is_global_zero:
            start.warn()

    def _embed(self, batch: VolumeBatch) -> Tensor:
        model = cast(EmbeddingModel, self.model)
        return model.embed_image(batch["image"], batch["num_scans"])

    def _require_evaluations(self) -> None:
        if not self.evaluations:
            raise ValueError(
                "there is nothing to evaluate: the system has no evaluations; "
                "choose some, as in evaluation=ct_rate"
            )

    def _start_evaluations(self) -> None:
        if not self.evaluations:
            return
        model = cast(EmbeddingModel, self.model)
        scale = whole(model.logit_scale.detach())
        for evaluation in self.evaluations.values():
            evaluation.reset()
            evaluation.prepare(model.embed_text, scale, self.device)

    def _update_evaluations(self, batch: VolumeBatch) -> None:
        if not self.evaluations:
            return
        embedding = self._embed(batch)
        for evaluation in self.evaluations.values():
            evaluation.update(embedding, batch)

    def _finish_evaluations(self, stage: str) -> None:
        if self.trainer.sanity_checking:  # a few batches: figures would be undefined
            return
        for name, evaluation in self.evaluations.items():
            result = evaluation.compute(gather_objects(evaluation.rows()))
            self.results[name] = result
            figures = {f"{stage}/{name}/{key}": value for key, value in result.metrics().items()}
            self.log_dict(figures, sync_dist=True)
