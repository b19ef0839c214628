"""Two-token models on two processes: recomputed, in chunks, with frozen parts; none searches for
unused parameters."""

from typing import Any

import pytest
import torch

from tests.distributed.ranks import run_launched
from tests.systems.dual_runs import MODELS, every_model, train

WORLD = 2


@pytest.fixture(scope="module")
def ranks() -> list[dict[str, Any]]:
    return run_launched(every_model, WORLD, WORLD)


@pytest.mark.parametrize("name", MODELS)
def test_two_processes_train_as_one_does(ranks, name):
    single = train("auto", MODELS[name])
    for run in [key for key in ranks[0] if key.startswith(f"{name}, ")]:
        for result in ranks:
            assert result[run]["losses"] == pytest.approx(single["losses"], abs=1e-5)
        torch.testing.assert_close(ranks[0][run]["weights"], single["weights"], rtol=0, atol=1e-5)


def test_recomputing_in_chunks_changes_nothing(ranks):
    ours, plain = (ranks[0][f"{name}, ddp"] for name in ("recomputed in chunks", "plain"))
    torch.testing.assert_close(ours, plain, rtol=0, atol=1e-5)
