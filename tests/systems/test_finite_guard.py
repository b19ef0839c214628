"""The guard names the broken studies."""

import pytest
import torch

from medvlp.systems.finite_guard import FiniteGuard

NAN = float("nan")


def test_a_finite_loss_passes():
    FiniteGuard().check(torch.tensor(1.0), torch.ones(2, 3), ["a", "b"])


def test_the_study_with_the_broken_embedding_is_named():
    embedding = torch.tensor([[1.0, 0.0], [NAN, 0.0]])
    with pytest.raises(ValueError, match="embedding is not finite: b"):
        FiniteGuard().check(torch.tensor(NAN), embedding, ["a", "b"])


def test_a_long_batch_is_cut_with_a_count():
    names = [f"s{k}" for k in range(20)]
    with pytest.raises(ValueError, match=r"of this rank: s0, .*s7 and 12 more"):
        FiniteGuard().check(torch.tensor(float("inf")), torch.ones(20, 2), names)


@pytest.mark.gpu
def test_on_a_gpu_the_next_step_or_a_checkpoint_raises():
    guard = FiniteGuard()
    loss, embedding = torch.tensor(NAN, device="cuda"), torch.ones(1, 2, device="cuda")
    guard.check(loss, embedding, ["a"])
    with pytest.raises(ValueError, match="not finite"):
        guard.check(torch.tensor(0.0, device="cuda"), embedding, ["b"])
    guard.check(loss, embedding, ["c"])
    with pytest.raises(ValueError, match="of this rank: c"):
        guard.settle()
