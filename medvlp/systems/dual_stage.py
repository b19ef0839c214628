"""Training of HSENet's two stages: volumes and reports, then with slices and a teacher."""

from collections.abc import Callable, Sequence
from typing import Any

from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn

from medvlp.evaluation.protocol import Evaluation
from medvlp.losses.relation import RelationLoss
from medvlp.models.hsenet_clip import HSENetCLIP
from medvlp.optim.groups import NO_DECAY, OptimizerCallable, decay_groups
from medvlp.systems.contrastive import ContrastiveSystem
from medvlp.types import Tokens, TwoTowerOutput, VolumeBatch

_TEACHER = "model.teacher."  # prefix of its weights in a checkpoint


class DualStageSystem(ContrastiveSystem):
    """Two towers that may look at slices, and may be kept close to a frozen teacher.

    The teacher is run in training steps in which the relation loss has a weight, and never else.

    Args:
        model: With a teacher for a `RelationLoss`; it is saved with the model.
        loss: See `ContrastiveSystem`, and so for all but the last.
        optimizer: See there.
        schedule: See there.
        evaluations: See there.
        no_decay: See there.
        compile_model: See there.
        init: See there; fills the teacher too, see `medvlp.checkpoints.init.SecondStageInit`.
        decayed: Parts of the names of vectors and scalars with weight decay nevertheless.
    """

    model: HSENetCLIP  # pyright: ignore[reportIncompatibleVariableOverride]

    def __init__(
        self,
        model: HSENetCLIP,
        loss: nn.Module,
        *,
        optimizer: OptimizerCallable,
        schedule: Callable[[int, int], float],
        evaluations: dict[str, Evaluation] | None = None,
        no_decay: Sequence[str] = NO_DECAY,
        compile_model: bool = False,
        init: Callable[[nn.Module], Any] | None = None,
        decayed: Sequence[str] = (),
    ) -> None:
        super().__init__(
            model,
            loss,
            optimizer=optimizer,
            schedule=schedule,
            evaluations=evaluations,
            no_decay=no_decay,
            compile_model=compile_model,
            init=init,
        )
        self.decayed = tuple(decayed)
        self._is_resumed = False

    def configure_model(self) -> None:
        """Refuse a relation loss without a teacher, and the reverse; then see `BaseSystem`.

        Raises:
            ValueError: If training is about to begin so.
        """
        if self._trainer is not None and self.trainer.state.fn == TrainerFn.FITTING:
            self._check_teacher()
        super().configure_model()

    def on_train_start(self) -> None:
        """Refuse a teacher that came from nowhere.

        Raises:
            ValueError: If neither `init` nor a checkpoint to go on from has filled it.
        """
        if self.model.teacher is not None and self._init is None and not self._is_resumed:
            raise ValueError(
                "the second stage learns from a teacher of the first, and none was given, so that "
                "it would be random; give the checkpoint of the first stage: init=second_stage "
                "init.path=FILE"
            )

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Split what is trained; the teacher is not."""
        return decay_groups(self.trained_module(), self.no_decay, decayed=self.decayed)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Leave out the weights of a teacher where the model has none, as an evaluation may."""
        self._is_resumed = True
        if self.model.teacher is None:
            weights = checkpoint["state_dict"]
            kept = [name for name in weights if not name.startswith(_TEACHER)]
            checkpoint["state_dict"] = {name: weights[name] for name in kept}

    def _forward(self, batch: VolumeBatch, tokens: Tokens) -> TwoTowerOutput:
        return self.model(batch["image"], batch["num_scans"], tokens, batch.get("slice_features"))

    def _losses(
        self, output: TwoTowerOutput, batch: VolumeBatch, tokens: Tokens
    ) -> dict[str, Tensor]:
        step = self.trainer.global_step
        if not isinstance(self.loss, RelationLoss) or not self.loss.weight_at(step):
            return self.loss(output, batch)
        teacher = self.model.teach(batch["image"], batch["num_scans"], tokens)
        return self.loss(output, batch, teacher=teacher, step=step)

    def _embed(self, batch: VolumeBatch) -> Tensor:
        slices = batch.get("slice_features")
        return self.model.embed_image(batch["image"], batch["num_scans"], slices)

    def _check_teacher(self) -> None:
        related = isinstance(self.loss, RelationLoss)
        if related != (self.model.teacher is not None):
            raise ValueError(
                f"the loss is a {type(self.loss).__name__} and the model has "
                f"{'no' if related else 'a'} teacher; choose both together by loss=clip_relation, "
                "or neither"
            )
