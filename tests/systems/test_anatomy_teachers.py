"""Second models beside a model of organs: what they follow, and that runs with them go on."""

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from medvlp.losses.anatomy import AnatomyContrastiveLoss
from medvlp.losses.anatomy_targets import CoTeachingTargets, EmaTextTargets
from medvlp.systems.anatomy import AnatomySystem
from medvlp.systems.anatomy_teachers import CoTeaching, EmaTextTeacher
from medvlp.types import VolumeBatch
from tests.systems.anatomy_tiny import ORGANS, make_batch, make_model, make_system
from tests.systems.tiny import MeanScore, Record, fit, ignore_advice, loader, make_trainer

BATCHES = [make_batch(step) for step in range(3)]
KINDS = ["ema_text", "co_teaching"]


def taught(kind: str, **options: Any) -> AnatomySystem:
    if kind == "ema_text":
        targets, teacher = EmaTextTargets(), EmaTextTeacher(0.9)
    else:
        targets, teacher = CoTeachingTargets(ramp_steps=2), CoTeaching(make_model(1))
    loss = AnatomyContrastiveLoss(ORGANS, targets=targets)
    return make_system(make_model(dropout=0.1), loss=loss, teacher=teacher, **options)


class Snapshots(Record):
    """Keeps the weights of both models before the first and after every step."""

    def on_train_start(self, trainer, pl_module) -> None:
        self.weights = [{k: v.clone() for k, v in pl_module.state_dict().items()}]

    def on_train_batch_end(self, trainer, pl_module, *rest) -> None:
        self.weights.append({k: v.clone() for k, v in pl_module.state_dict().items()})


def test_the_moving_average_follows_the_text_tower():
    record = Snapshots()
    fit(make_trainer(callbacks=[record]), taught("ema_text"), BATCHES)
    names = [name for name in record.weights[0] if name.startswith("teacher.")]
    assert names
    for name in names:
        average = record.weights[0][name.replace("teacher.", "model.")]
        for weights in record.weights[1:]:
            average = torch.lerp(average, weights[name.replace("teacher.", "model.")], 0.1)
        torch.testing.assert_close(record.weights[-1][name], average)


def test_co_teaching_trains_the_two_models_in_turn():
    record = Snapshots()
    fit(make_trainer(callbacks=[record]), taught("co_teaching"), BATCHES)
    for step, (old, new) in enumerate(zip(record.weights, record.weights[1:], strict=False)):
        moved = {name for name in old if not torch.equal(old[name], new[name])}
        expected = "teacher.partner." if step % 2 else "model."
        assert moved and all(name.startswith(expected) for name in moved)


def test_a_teacher_reads_without_dropout_and_leaves_the_mode_as_it_was():
    system = taught("co_teaching").train()
    first, second = (
        system.teacher.tell(system.model, BATCHES[0], 1)  # pyright: ignore
        for _ in range(2)
    )
    assert torch.equal(first.organ, second.organ) and system.model.training  # pyright: ignore


@pytest.mark.parametrize("kind", KINDS)
def test_resuming_gives_the_losses_of_the_uninterrupted_run(kind, tmp_path):
    whole, second = Record(), Record()
    options: dict[str, Any] = {"max_epochs": 2, "callbacks": [whole, Seeds()]}
    fit(make_trainer(**options), taught(kind), BATCHES)
    system, schedule = taught(kind), taught(kind).schedule
    system.schedule = lambda step, total: schedule(step, 2 * total)
    first = make_trainer(callbacks=[Seeds()])
    fit(first, system, BATCHES)
    first.save_checkpoint(tmp_path / "half.ckpt")
    fit(
        make_trainer(max_epochs=2, callbacks=[second, Seeds()]),
        taught(kind),
        BATCHES,
        ckpt_path=tmp_path / "half.ckpt",
        weights_only=True,
    )
    assert second.losses == whole.losses[3:]


class OfLungs(MeanScore):
    """An evaluation of the first organ."""

    def update(self, image_embedding: Tensor, batch: VolumeBatch) -> None:
        super().update(image_embedding[:, 0], batch)


class Seeds(Record):
    """Makes dropout follow from the step alone, as `ExactResume` does."""

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        torch.manual_seed(trainer.global_step)


@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoint_is_evaluated_without_its_teacher(kind, tmp_path):
    trainer = make_trainer(max_steps=1)
    system = taught(kind)
    fit(trainer, system, BATCHES)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    other = make_system(make_model(5), evaluations={"demo": OfLungs()})
    last: dict[str, Any] = {"ckpt_path": tmp_path / "last.ckpt", "weights_only": True}
    with warnings.catch_warnings():
        ignore_advice()
        make_trainer().test(other, loader(BATCHES[:1]), verbose=False, **last)
    for name, weight in other.model.state_dict().items():
        assert torch.equal(weight, system.model.state_dict()[name])


def test_models_that_start_alike_are_refused():
    same = {name: weight.clone() for name, weight in make_model().state_dict().items()}

    def init(model: nn.Module) -> None:
        model.load_state_dict(same)

    with pytest.raises(ValueError, match="start from the same weights"):
        fit(make_trainer(), taught("co_teaching", init=init), BATCHES)


def test_targets_and_teacher_belong_together():
    loss = AnatomyContrastiveLoss(ORGANS, targets=EmaTextTargets())
    with pytest.raises(ValueError, match="EmaTextTargets and there is no teacher"):
        make_system(loss=loss)
    with pytest.raises(ValueError, match="AnatomyTargets and there is a teacher"):
        make_system(teacher=EmaTextTeacher())
    with pytest.raises(ValueError, match="at least 0 and below 1"):
        EmaTextTeacher(1.0)
