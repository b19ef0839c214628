"""Schedules at their seams; the published numbers are in tests/parity."""

import pytest
import torch
from transformers import get_cosine_schedule_with_warmup

from medvlp.optim.schedules import (
    WarmupConstant,
    WarmupCooldown,
    WarmupCosine,
    WarmupEpochCosine,
    WarmupShareCosine,
)


def test_warmup_reaches_the_base_rate_with_its_last_step():
    for schedule in (
        WarmupConstant(4),
        WarmupCosine(4),
        WarmupCooldown(4, cooldown_steps=2),
    ):
        assert [schedule(step, 20) for step in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]


def test_cosine_ends_at_zero_and_stays_there():
    schedule = WarmupCosine(2)
    assert schedule(6, 10) == pytest.approx(0.5)
    assert schedule(10, 10) == schedule(11, 10) == 0.0


def test_a_run_shorter_than_its_warmup_only_warms_up():
    assert [WarmupCosine(377)(step, 2) for step in range(3)] == [1 / 377, 2 / 377, 3 / 377]


def test_cooldown_falls_to_its_end_factor():
    schedule = WarmupCooldown(0, cooldown_steps=4, power=2.0, end_factor=0.2)
    assert [schedule(step, 10) for step in (0, 5, 6, 8, 10, 11)] == pytest.approx(
        [1, 1, 1, 0.25 * 0.8 + 0.2, 0.2, 0.2]
    )


def test_impossible_lengths_are_refused():
    with pytest.raises(ValueError, match="warmup_steps is -1"):
        WarmupCosine(-1)
    with pytest.raises(ValueError, match="cooldown_steps is 0"):
        WarmupCooldown(1, cooldown_steps=0)


def test_epoch_cosine_is_flat_within_an_epoch_and_warms_up_in_the_first_only():
    schedule = WarmupEpochCosine(2, num_epochs=2, start_factor=0.5, end_factor=0.2)
    assert [schedule(step, 8) for step in range(8)] == pytest.approx(
        [0.5, 0.75, 1, 1, 0.6, 0.6, 0.6, 0.6]
    )
    with pytest.raises(ValueError, match="num_epochs is 0"):
        WarmupEpochCosine(2, num_epochs=0)


@pytest.mark.parametrize("total", [7, 100])
def test_share_cosine_is_that_of_transformers(total):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    warmup = {7: 1, 100: 3}[total]  # 3 % rounded up
    theirs = get_cosine_schedule_with_warmup(optimizer, warmup, total)
    ours = WarmupShareCosine(0.03)
    for step in range(total + 1):
        assert ours(step, total) == pytest.approx(theirs.get_last_lr()[0], abs=1e-12)
        optimizer.step()
        theirs.step()
    with pytest.raises(ValueError, match="share between 0 and 1"):
        WarmupShareCosine(3.0)
