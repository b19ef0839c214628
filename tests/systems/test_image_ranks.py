"""CLIP's ViT beside grouped texts on two processes, replicated and sharded."""

from typing import Any

import pytest
import torch

from tests.distributed.ranks import run_launched
from tests.systems.image_runs import both_strategies, train

WORLD = 2


@pytest.fixture(scope="module")
def ranks() -> list[dict[str, Any]]:
    return run_launched(both_strategies, WORLD, WORLD)


@pytest.mark.parametrize("strategy", ["ddp", "fsdp2"])
def test_two_processes_train_as_one_does(ranks: list[dict[str, Any]], strategy: str) -> None:
    single = train("auto")
    for result in ranks:
        assert result[strategy]["losses"] == pytest.approx(single["losses"], abs=1e-5)
    torch.testing.assert_close(ranks[0][strategy]["weights"], single["weights"], rtol=0, atol=1e-5)
