"""Organs that stay as they are while others are trained."""

import pytest
import torch

from medvlp.callbacks.frozen_organs import FrozenOrgans
from tests.systems.anatomy_tiny import ORGANS, make_batch, make_model, make_system
from tests.systems.tiny import fit, make_trainer

BATCHES = [make_batch(step) for step in range(3)]
KEPT = (ORGANS[0], ORGANS[2])


def organ_embeddings(model) -> torch.Tensor:
    model.eval()
    batch = make_batch(7)
    mask = batch["anatomy_mask"]  # pyright: ignore
    with torch.no_grad():
        return model.embed_image(batch["image"], batch["num_scans"], mask)[0]


def changed(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    return {name for name, tensor in before.items() if not torch.equal(tensor, after[name])}


def weights(model) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def test_kept_organs_are_embedded_as_before_and_the_new_one_learns():
    model = make_model()
    before, embedded = weights(model), organ_embeddings(model)
    callback = FrozenOrgans(KEPT)
    fit(make_trainer(callbacks=[callback], max_epochs=2), make_system(model), BATCHES)
    own = {"pooling.query", "pooling.projections.1.weight", "pooling.projections.1.bias"}
    assert changed(before, weights(model)) == own
    after = organ_embeddings(model)
    assert torch.equal(after[:, [0, 2]], embedded[:, [0, 2]])
    assert not torch.equal(after[:, 1], embedded[:, 1])


def test_what_organs_share_may_be_trained():
    model = make_model()
    before = weights(model)
    callback = FrozenOrgans(KEPT, shared=False)
    fit(make_trainer(callbacks=[callback], max_epochs=1), make_system(model), BATCHES)
    kept = {f"pooling.projections.{row}.{name}" for row in (0, 2) for name in ("weight", "bias")}
    found = changed(before, weights(model))
    assert not found & kept and "vision.patch_embed.proj.weight" in found
    assert torch.equal(model.pooling.query[[0, 2]], before["pooling.query"][[0, 2]])
    assert not torch.equal(model.pooling.query[1], before["pooling.query"][1])


def test_a_resumed_run_keeps_the_rows_of_its_checkpoint(tmp_path):
    whole, first, second = make_model(), make_model(), make_model()
    fit(make_trainer(callbacks=[FrozenOrgans(KEPT)], max_epochs=2), make_system(whole), BATCHES)
    system, schedule = make_system(first), make_system().schedule
    system.schedule = lambda step, total: schedule(step, 2 * total)
    trainer = make_trainer(callbacks=[FrozenOrgans(KEPT)])
    fit(trainer, system, BATCHES)
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    torch.nn.init.ones_(second.pooling.query)
    fit(
        make_trainer(callbacks=[FrozenOrgans(KEPT)], max_epochs=2),
        make_system(second),
        BATCHES,
        ckpt_path=tmp_path / "half.ckpt",
        weights_only=True,
    )
    assert not changed(weights(whole), weights(second))


@pytest.mark.parametrize("organs", [(), ("liver",), tuple(ORGANS)])
def test_organs_that_cannot_be_kept_are_refused(organs):
    with pytest.raises(ValueError, match="leave at least one to train"):
        fit(make_trainer(callbacks=[FrozenOrgans(organs)]), make_system(), BATCHES)
