"""Gather and exchange on two and three processes; three processes are started once."""

from typing import Any

import pytest
import torch

from medvlp.distributed.exchange import exchange_blocks
from medvlp.distributed.gather import gather, gather_objects, gather_ragged, gather_sizes
from tests.distributed.ranks import run_ranks

WORLD = 3


def _weights(rank: int) -> torch.Tensor:
    """Give what rank `rank` multiplies the gathered rows with."""
    return torch.arange(6.0).reshape(6, 1) + 10 * rank


def _work(rank: int) -> dict[str, Any]:
    rows = torch.full((2, 1), float(rank))
    found: dict[str, Any] = {"objects": gather_objects([rank] * rank)}
    for gradient in ("all", "own", "none"):
        leaf = rows.clone().requires_grad_()
        gathered = gather(leaf, gradient)
        if gradient != "none":
            (gathered * _weights(rank)).sum().backward()
        found[gradient] = (gathered.detach(), gathered.requires_grad, leaf.grad)
    leaf = torch.full((rank, 2), float(rank), requires_grad=True)
    gathered = gather_ragged(leaf, [0, 1, 2])
    (gathered * (rank + 1)).sum().backward()
    found["ragged"] = (gathered.detach(), leaf.grad)
    found["sizes"] = gather_sizes([rank, 7], torch.device("cpu"))
    for how in ("bidir", "shift", "reduce", "gather"):
        leaf = rows.clone().requires_grad_()
        blocks = list(exchange_blocks(leaf, how))
        sum((100 ** int(own)) * (rank + 1) * block.sum() for block, own in blocks).backward()
        seen = sorted((float(block[0, 0].detach()), own) for block, own in blocks)
        found[how] = (seen, leaf.grad)
    return found


@pytest.fixture(scope="module")
def found() -> list[dict[str, Any]]:
    return run_ranks(_work, WORLD)


def test_gather_concatenates_in_rank_order(found):
    for result in found:
        for gradient in ("all", "own", "none"):
            assert result[gradient][0].flatten().tolist() == [0, 0, 1, 1, 2, 2]


def test_gradient_all_sums_over_ranks_at_the_owner(found):
    summed = sum(_weights(rank) for rank in range(WORLD))
    for rank, result in enumerate(found):
        assert torch.equal(result["all"][2], summed[2 * rank : 2 * rank + 2])


def test_gradient_own_ignores_the_other_ranks_losses(found):
    for rank, result in enumerate(found):
        assert torch.equal(result["own"][2], _weights(rank)[2 * rank : 2 * rank + 2])


def test_gradient_none_is_a_constant(found):
    assert not any(result["none"][1] for result in found)


def test_ragged_gather_keeps_every_row_and_its_gradient(found):
    for rank, result in enumerate(found):
        gathered, grad = result["ragged"]
        assert gathered.tolist() == [[1, 1], [2, 2], [2, 2]]
        assert torch.equal(grad, torch.full((rank, 2), 6.0))  # 1 + 2 + 3 over the ranks
        assert result["sizes"] == [[0, 7], [1, 7], [2, 7]]


def test_objects_arrive_in_rank_order(found):
    assert all(result["objects"] == [1, 2, 2] for result in found)


@pytest.mark.parametrize("how", ["bidir", "shift", "reduce", "gather"])
def test_every_block_comes_once_and_its_gradient_returns_to_the_owner(found, how):
    for rank, result in enumerate(found):
        seen, grad = result[how]
        assert seen == [(float(source), source == rank) for source in range(WORLD)]
        foreign = sum(other + 1 for other in range(WORLD) if other != rank)
        assert torch.equal(grad, torch.full((2, 1), 100.0 * (rank + 1) + foreign))


def test_one_process_needs_no_group():
    rows = torch.ones(2, 1, requires_grad=True)
    assert gather(rows) is rows
    assert not gather(rows, "none").requires_grad
    assert gather_sizes([3], torch.device("cpu")) == [[3]]
    assert gather_objects(["a"]) == ["a"]
    assert [own for _, own in exchange_blocks(rows)] == [True]
