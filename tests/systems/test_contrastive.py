"""The training step and what surrounds it, on one process."""

import math

import pytest
import torch

from medvlp.layers.pos_embed import ScanPositions
from medvlp.losses.contrastive import ClipLoss
from tests.systems.tiny import (
    GLOBAL_BATCH,
    NUM_STEPS,
    Record,
    fit,
    make_batch,
    make_model,
    make_system,
    make_trainer,
)

BATCHES = [make_batch(step) for step in range(NUM_STEPS)]


def test_the_rate_follows_the_schedule_per_optimizer_step():
    record = Record()
    fit(
        make_trainer(callbacks=[record], max_epochs=2, accumulate_grad_batches=3),
        make_system(),
        BATCHES,
    )
    assert record.rates == pytest.approx([5e-3] * 3 + [1e-2] * 3)  # two steps, warmup of two


def test_the_scale_never_leaves_its_range():
    system = make_system()
    scales = []

    class Watch(Record):
        def on_train_batch_end(self, *args) -> None:
            scales.append(system.model.logit_scale.item())

    torch.manual_seed(0)
    with torch.no_grad():
        system.model.logit_scale.fill_(math.log(100.0) + 0.5)
    fit(make_trainer(callbacks=[Watch()]), system, BATCHES)
    assert len(scales) == NUM_STEPS and max(scales) <= math.log(100.0) + 1e-6


def test_the_logged_loss_is_the_loss_of_the_step():
    record = Record()
    system = make_system(loss=ClipLoss())
    model = make_model()
    output = model(BATCHES[0]["image"], BATCHES[0]["num_scans"], BATCHES[0].get("tokens"))
    expected = ClipLoss()(output, BATCHES[0])["total"].item()
    fit(make_trainer(callbacks=[record]), system, BATCHES)
    assert record.losses[0] == pytest.approx(expected, abs=1e-6)


def test_a_non_finite_loss_names_the_study():
    broken = make_batch(1)
    broken["image"] = broken["image"].clone()
    broken["image"][1] = float("nan")  # first scan of the second study
    with pytest.raises(ValueError, match=r"embedding is not finite: step1_study1\. Look"):
        fit(make_trainer(), make_system(), [BATCHES[0], broken])


def test_a_study_of_too_many_scans_is_named():
    class Crowded(torch.nn.Module):
        def forward(self, image, num_scans):
            ScanPositions(1).draw(self.training, len(num_scans), int(num_scans.max()))

    model = make_model()
    model.vision = Crowded()
    with pytest.raises(ValueError, match=r"2 scans, .*1 rows.*step0_study1 \(2\), step0_study3"):
        fit(make_trainer(), make_system(model), BATCHES)


def test_a_global_batch_of_one_is_refused():
    single = make_batch(0, slice(0, 1))
    with pytest.raises(ValueError, match="at least two studies"):
        fit(make_trainer(), make_system(), [single])


def test_a_batch_without_texts_is_refused():
    batch = make_batch(0)
    del batch["tokens"]
    with pytest.raises(ValueError, match="no texts"):
        fit(make_trainer(), make_system(), [batch])


def test_a_run_without_an_end_is_refused():
    with pytest.raises(ValueError, match=r"trainer\.max_epochs"):
        fit(make_trainer(max_epochs=-1), make_system(), BATCHES)


def test_resuming_gives_the_losses_of_the_uninterrupted_run(tmp_path):
    whole, second = Record(), Record()
    fit(make_trainer(callbacks=[whole], max_epochs=2), make_system(), BATCHES)

    first = make_trainer(max_epochs=1)
    system = make_system()
    system.schedule = lambda step, total: system_schedule(step, 2 * NUM_STEPS)
    system_schedule = make_system().schedule
    fit(first, system, BATCHES)
    first.save_checkpoint(tmp_path / "half.ckpt")
    fit(
        make_trainer(callbacks=[second], max_epochs=2),
        make_system(),
        BATCHES,
        ckpt_path=tmp_path / "half.ckpt",
        weights_only=True,
    )
    assert second.losses == whole.losses[NUM_STEPS:]


def test_mixed_precision_and_clipping_train():
    for precision in ("32-true", "bf16-mixed"):
        record = Record()
        fit(
            make_trainer(callbacks=[record], precision=precision, gradient_clip_val=1.0),
            make_system(),
            BATCHES,
        )
        assert all(math.isfinite(loss) for loss in record.losses)
    assert len(BATCHES[0]["study_id"]) == GLOBAL_BATCH


def test_the_model_is_compiled_once_and_keeps_its_names(monkeypatch):
    compiled = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module: compiled.append(type(module)))
    system = make_system()
    system.compile_model = True
    names = list(system.state_dict())
    for _ in range(2):
        fit(make_trainer(max_steps=1), system, BATCHES)
    assert compiled == [type(system.model)]
    assert list(system.state_dict()) == names
