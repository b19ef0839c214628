"""DDP and FSDP2 on two processes against one process with the same global batches."""

from typing import Any

import pytest
import torch

from tests.distributed.ranks import run_launched
from tests.systems.strategy_runs import STRATEGIES, everything, train

WORLD = 2
SOURCES = ("single", *STRATEGIES)


@pytest.fixture(scope="module")
def single(tmp_path_factory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("checkpoints")
    path = folder / "single.ckpt"
    return train("auto", 0, 1, save=path) | {"folder": folder, "path": path}


@pytest.fixture(scope="module")
def ranks(single) -> list[dict[str, Any]]:
    return run_launched(everything, WORLD, WORLD, single["folder"])


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_loss_curve_is_that_of_one_process(single, ranks, strategy):
    for result in ranks:
        assert result[strategy]["losses"] == pytest.approx(single["losses"], abs=1e-5)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_weights_are_those_of_one_process(single, ranks, strategy):
    weights = ranks[0][strategy]["weights"]
    torch.testing.assert_close(weights, single["weights"], rtol=0, atol=1e-5)


def test_no_replicated_parameter_drifts(ranks):
    first, second = (result["ddp"]["weights"] for result in ranks)
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("source", SOURCES)
def test_a_checkpoint_of_any_strategy_goes_on_under_another(single, ranks, source, strategy):
    reference = train("auto", 0, 1, resume=single["path"])["losses"]
    for result in ranks:
        assert result[f"{source}->{strategy}"] == pytest.approx(reference, abs=1e-5)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_checkpoint_of_two_ranks_goes_on_alone(single, ranks, strategy):
    reference = train("auto", 0, 1, resume=single["path"])["losses"]
    alone = train("auto", 0, 1, resume=single["folder"] / f"{strategy}.ckpt")["losses"]
    assert alone == pytest.approx(reference, abs=1e-5)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_figures_are_those_of_one_process_on_every_rank(single, ranks, strategy):
    assert single["figures"]["val/mean/num_samples"] == 24
    for result in ranks:
        assert result[strategy]["figures"] == pytest.approx(single["figures"], abs=1e-5)
