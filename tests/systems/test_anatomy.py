"""Training and evaluation of organs, on one process."""

import math
import warnings
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor

from medvlp.evaluation.anatomy_zero_shot import embed_organs
from medvlp.losses.anatomy import AnatomyContrastiveLoss
from tests.systems.anatomy_tiny import ORGANS, PATCH, SHAPE, make_batch, make_model, make_system
from tests.systems.tiny import MeanScore, Record, fit, ignore_advice, loader, make_trainer

BATCHES = [make_batch(step) for step in range(3)]


class Embeddings(MeanScore):
    """Keeps what an evaluation is given."""

    def update(self, image_embedding: Tensor, batch) -> None:
        self.given = image_embedding
        super().update(image_embedding[:, 0], batch)


def test_the_logged_losses_are_those_of_the_step():
    model, trainer = make_model(), make_trainer(max_steps=1, log_every_n_steps=1)
    output = model(
        BATCHES[0]["image"],
        BATCHES[0]["num_scans"],
        BATCHES[0]["anatomy_mask"],  # pyright: ignore
        BATCHES[0]["tokens"],  # pyright: ignore
        intact_only=True,
    )
    expected = make_system().loss(output, BATCHES[0])
    fit(trainer, make_system(), BATCHES)
    logged = trainer.callback_metrics
    assert set(expected) == {"total", *ORGANS}
    for name, loss in expected.items():
        assert logged["train/loss" if name == "total" else f"train/{name}"] == pytest.approx(
            loss.item(), abs=1e-6
        )
    assert logged["train/temperature"] == pytest.approx(0.07)


def test_the_rate_follows_the_epochs():
    record = Record()
    fit(make_trainer(callbacks=[record], max_epochs=2), make_system(), BATCHES)
    assert record.rates == pytest.approx([1e-3, 5.5e-3, 1e-2, 5e-3, 5e-3, 5e-3])


def test_no_parameter_is_left_without_decay_as_published():
    fit(make_trainer(max_steps=1), system := make_system(), BATCHES)
    groups = system.trainer.optimizers[0].param_groups
    decayed = sum(p.numel() for g in groups if g["weight_decay"] for p in g["params"])
    assert decayed == sum(p.numel() for p in system.model.parameters())


def test_the_temperature_never_leaves_its_range():
    system = make_system()
    with torch.no_grad():
        system.model.temperature.fill_(0.0012)
    temperatures = []

    class Watch(Record):
        def on_train_batch_end(self, *args) -> None:
            temperatures.append(system.model.temperature.item())

    fit(make_trainer(callbacks=[Watch()], max_epochs=2), system, BATCHES)
    assert len(temperatures) == 6 and min(temperatures) >= 0.001 and max(temperatures) <= 0.5


def test_the_scale_that_evaluations_get_is_one_over_the_temperature():
    model = make_model()
    assert model.logit_scale.exp().item() == pytest.approx(1 / 0.07)
    assert model.logit_scale.shape == (1,)


def test_evaluations_get_the_embeddings_of_organs_with_nan_for_absent_ones():
    evaluation, model = Embeddings(), make_model()
    batch = make_batch(0, absent=[(k, 1) for k in range(4)])
    system = make_system(model, evaluations={"demo": evaluation})
    trainer = make_trainer()
    with warnings.catch_warnings():
        ignore_advice()
        trainer.test(system, loader([batch]), verbose=False)
    expected = embed_organs(
        model.embed_image,
        batch["image"],
        batch["anatomy_mask"],  # pyright: ignore
        num_organs=3,
        window=SHAPE,
        multiple=PATCH,
    )
    torch.testing.assert_close(evaluation.given, expected, rtol=0, atol=0, equal_nan=True)
    assert evaluation.given[:, 1].isnan().all() and evaluation.given[:, [0, 2]].isfinite().all()
    assert evaluation.scale.item() == pytest.approx(1 / 0.07)


def test_published_windows_cut_the_last_layer_off_a_long_organ():
    batch = make_batch(0)
    batch["anatomy_mask"] = torch.zeros_like(batch["anatomy_mask"])  # pyright: ignore
    batch["anatomy_mask"][:, :5] = 1
    given = {}
    for compat in (None, "published"):
        system = make_system(window=(4, *SHAPE[1:]), compat=compat)
        given[compat] = system.eval()._embed(batch)
        expected = embed_organs(
            system.model.embed_image,
            batch["image"],
            batch["anatomy_mask"],
            num_organs=3,
            window=system.window,
            multiple=PATCH,
            compat=compat,
        )
        torch.testing.assert_close(given[compat], expected, rtol=0, atol=0, equal_nan=True)
    assert not torch.allclose(given[None][:, 0], given["published"][:, 0])


def test_a_non_finite_loss_names_the_study():
    broken = make_batch(1)
    broken["image"] = broken["image"].clone()
    broken["image"][1] = float("nan")
    with pytest.raises(ValueError, match=r"embedding is not finite: step1_study1\. Look"):
        fit(make_trainer(), make_system(), [BATCHES[0], broken])


@pytest.mark.parametrize("name", ["tokens", "anatomy_mask"])
def test_a_batch_without_texts_or_masks_is_refused(name):
    batch = make_batch(0)
    del batch[name]
    with pytest.raises(ValueError, match=r"no texts to learn|no anatomy_mask"):
        fit(make_trainer(), make_system(), [batch])


@pytest.mark.parametrize("value", [(1, 2), (0, 1, 1)])
def test_a_window_of_another_form_is_refused(value):
    with pytest.raises(ValueError, match="three lengths"):
        make_system(window=value)


def test_resuming_gives_the_losses_of_the_uninterrupted_run(tmp_path):
    whole, second = Record(), Record()
    fit(make_trainer(callbacks=[whole], max_epochs=2), make_system(), BATCHES)
    system, schedule = make_system(), make_system().schedule
    system.schedule = lambda step, total: schedule(step, 2 * total)
    first = make_trainer()
    fit(first, system, BATCHES)
    first.save_checkpoint(tmp_path / "half.ckpt")
    fit(
        make_trainer(callbacks=[second], max_epochs=2),
        make_system(),
        BATCHES,
        ckpt_path=tmp_path / "half.ckpt",
        weights_only=True,
    )
    assert second.losses == whole.losses[3:]
    assert all(math.isfinite(loss) for loss in whole.losses)


def test_a_run_whose_patients_are_all_normal_goes_on_and_says_so_once(caplog):
    record, system = Record(), make_system()
    before = system.model.vision.pos_embed.clone()
    batches = [make_batch(step, normal=step > 0) for step in range(3)]
    fit(make_trainer(callbacks=[record]), system, batches)
    assert record.losses[0] > 0 and record.losses[1:] == [0.0, 0.0]
    assert not torch.equal(before, system.model.vision.pos_embed)
    told = [r.getMessage() for r in caplog.records if "learnt nothing" in r.getMessage()]
    assert len(told) == 1 and "rank 0 learnt nothing in 2 of 3 steps of epoch 0" in told[0]


def test_a_loss_of_other_organs_is_refused():
    with pytest.raises(ValueError, match="lung, aorta, the model lung, heart, aorta"):
        make_system(loss=AnatomyContrastiveLoss(["lung", "aorta"]))


@pytest.mark.parametrize("part", ["recipe", "texts"])
def test_data_that_count_organs_otherwise_are_refused(part):
    organs = SimpleNamespace(organs=ORGANS[::-1], mask=SimpleNamespace(names=ORGANS[::-1]))
    trainer = SimpleNamespace(datamodule=SimpleNamespace(**{part: organs}))
    system = make_system()
    system._trainer = trainer  # pyright: ignore
    with pytest.raises(ValueError, match=r"data\..* has aorta, heart, lung, the model lung"):
        system.setup("fit")


def test_organs_are_not_evaluated_with_a_sharded_model():
    system = make_system(evaluations={"organs": Embeddings()})
    system._trainer = SimpleNamespace(strategy=ModelParallelStrategy())  # pyright: ignore
    with pytest.raises(ValueError, match="strategy=ddp"):
        system.configure_model()
