"""Training of organs on two processes, of which one lacks an organ, or all."""

import math
from typing import Any

import pytest
import torch

from tests.distributed.ranks import run_launched
from tests.systems.anatomy_runs import every_run, train


@pytest.fixture(scope="module")
def ranks() -> list[dict[str, Any]]:
    return run_launched(every_run, 2, 2)


@pytest.mark.parametrize("name", ["full", "co_teaching"])
def test_two_processes_train_as_one_does(ranks, name):
    single = train("full", co_teaching=name == "co_teaching")
    for rank in ranks:
        assert rank[name]["losses"] == pytest.approx(single["losses"], abs=1e-5)
    torch.testing.assert_close(ranks[0][name]["weights"], single["weights"], rtol=0, atol=1e-5)


def test_published_gradients_end_with_equal_weights_on_all_ranks(ranks):
    first, second = (rank["published"] for rank in ranks)
    assert torch.equal(first["weights"], second["weights"])
    assert all(math.isfinite(loss) for loss in first["losses"] + second["losses"])
    assert first["losses"][2] == second["losses"][2] == 0.0
