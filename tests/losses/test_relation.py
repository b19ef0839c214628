"""The relation to a teacher: hand-worked numbers, its schedule, ranks against one process."""

import pytest
import torch
from torch import Tensor

from medvlp.losses.contrastive import ClipLoss
from medvlp.losses.relation import RelationLoss, relation_loss
from medvlp.types import TwoTowerOutput
from tests.distributed.ranks import run_ranks
from tests.losses.rank_losses import unit_rows

WORLD, LOCAL, WIDTH, STEP = 3, 2, 5, 10
NAMES = ("image", "text", "teacher_image", "teacher_text")


def _output(image: Tensor, text: Tensor, scale: float = 0.0) -> TwoTowerOutput:
    return TwoTowerOutput(
        image_embedding=image, text_embedding=text, logit_scale=torch.tensor([scale])
    )


def _taught(rank: int, parts: list[dict[str, Tensor]], local_loss: bool) -> dict[str, Tensor]:
    """Loss and gradients of one rank."""
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in parts[rank].items()}
    scale = torch.tensor([1.5], requires_grad=True)
    student, teacher = (
        TwoTowerOutput(
            image_embedding=leaves[prefix + "image"],
            text_embedding=leaves[prefix + "text"],
            logit_scale=scale,
        )
        for prefix in ("", "teacher_")
    )
    contrastive = ClipLoss(local_loss=local_loss, gather_with_grad=True)
    loss = RelationLoss(contrastive, weight=0.7, num_steps=40)
    losses = loss(student, {}, teacher=teacher, step=STEP)
    losses["total"].backward()
    found = {name: leaf.grad for name, leaf in leaves.items() if leaf.grad is not None}
    assert scale.grad is not None
    return {name: value.detach() for name, value in losses.items()} | found | {"scale": scale.grad}


def _both(rank: int, parts: list[dict[str, Tensor]]) -> list[dict[str, Tensor]]:
    return [_taught(rank, parts, local) for local in (False, True)]


def test_ranks_together_are_one_process():
    whole = {name: unit_rows(WORLD * LOCAL, WIDTH, seed) for seed, name in enumerate(NAMES)}
    cut = {name: rows.chunk(WORLD) for name, rows in whole.items()}
    parts = [{name: rows[rank] for name, rows in cut.items()} for rank in range(WORLD)]
    single = _taught(0, [whole], False)
    results = run_ranks(_both, WORLD, parts)
    for mode in (0, 1):
        found = [result[mode] for result in results]
        for key in ("total", "contrastive", "relation", "scale"):
            mean = torch.stack([result[key] for result in found]).mean(0)
            torch.testing.assert_close(mean, single[key], rtol=0, atol=1e-6)
        for key in ("image", "text"):
            averaged = torch.cat([result[key] for result in found]) / WORLD
            torch.testing.assert_close(averaged, single[key], rtol=0, atol=1e-6)
    assert "teacher_image" not in single and "teacher_text" not in single


def test_worked_by_hand():
    student = _output(torch.eye(2), torch.eye(2))
    teacher = _output(torch.eye(2), torch.eye(2).flip(0), scale=9.0)  # its own scale is not used
    losses = RelationLoss(ClipLoss(), weight=0.1, num_steps=4)(student, {}, teacher=teacher, step=1)
    assert losses["relation"].item() == pytest.approx(1.0)  # all four pairs differ by 1
    assert losses["contrastive"].item() == pytest.approx(0.3132617)  # ln(1 + 1/e)
    assert losses["total"].item() == pytest.approx(0.3132617 + 0.1 * 0.75)


def test_without_a_teacher_it_is_the_contrastive_loss():
    output = _output(unit_rows(4, 3, 0), unit_rows(4, 3, 1))
    losses = RelationLoss(ClipLoss())(output, {})
    assert set(losses) == {"total"}
    assert torch.equal(losses["total"], ClipLoss()(output, {})["total"])


def test_teacher_logits_are_a_constant():
    student, teacher = (torch.randn(3, 3, requires_grad=True) for _ in range(2))
    relation_loss(student, teacher).backward()
    assert teacher.grad is None
    expected = 2 * (student - teacher).detach() / 9
    torch.testing.assert_close(student.grad, expected)


def test_no_steps_mean_no_weight():
    assert RelationLoss(ClipLoss(), num_steps=0).weight_at(0) == 0
    with pytest.raises(ValueError, match="neither can be negative"):
        RelationLoss(ClipLoss(), weight=-0.1)
