"""Chunked batches train as whole ones do, on one process and on two."""

from typing import Any

import pytest
import torch

from tests.distributed.ranks import run_launched
from tests.systems.chunked_runs import chunked, train

WORLD = 2


@pytest.fixture(scope="module")
def whole() -> dict[str, Any]:
    return train("auto", 1)


@pytest.fixture(scope="module")
def ranks() -> list[dict[str, Any]]:
    return run_launched(chunked, WORLD, WORLD)


def test_one_process(whole):
    torch.testing.assert_close(train("auto", 4), whole, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("strategy", ["ddp", "fsdp2"])
def test_two_processes(whole, ranks, strategy):
    for result in ranks:
        assert result[strategy]["losses"] == pytest.approx(whole["losses"], rel=1e-6)
    weights = ranks[0][strategy]["weights"]
    torch.testing.assert_close(weights, whole["weights"], rtol=0, atol=1e-5)
