from itertools import islice
from random import Random
from typing import Any

import numpy as np
import pytest

from medvlp.data.mixing import Component, Mixed
from medvlp.data.sampling import GlobalBatchSampler
from medvlp.data.shard_order import (
    ShardOrder,
    published_batches,
    published_draws,
    published_order,
    shard_ranges,
)


def sets_of(*shards: int, each: int = 10) -> list[Component]:
    return [
        Component(f"set{number}", "", np.repeat(np.arange(count), each))
        for number, count in enumerate(shards)
    ]


def order_of(mixture: ShardOrder, components: list[Component], batch: int = 10) -> np.ndarray:
    return mixture.order(components, batch, seed=0, epoch=0)


def test_every_sample_once_and_few_shards_at_a_time() -> None:
    components = sets_of(7, 5)
    order = order_of(ShardOrder(window=4), components)
    assert sorted(order) == list(range(120))
    windows = order.reshape(3, 40) // 10
    assert all(len(set(window)) == 4 for window in windows)  # 4 shards of 10 samples
    assert all(window.tolist() != sorted(window) for window in windows)
    later = ShardOrder(window=4).order(components, 10, seed=0, epoch=1)
    assert later.tolist() != order.tolist() and sorted(later) == list(range(120))


def test_the_last_window_does_not_reach_into_the_next_pass() -> None:
    order = order_of(ShardOrder(window=5, epoch_size=150), sets_of(12))
    assert sorted(order[:120]) == list(range(120)) and len(order) == 150


def test_an_epoch_is_as_long_as_published() -> None:
    """5.282 million samples, 128 on each of 16 GPUs, 8 workers: 2584 batches; of 8 GPUs: 5160."""
    assert published_batches(5_282_000, 16 * 128, 8) == 2584
    assert published_batches(5_282_000, 8 * 128, 8) == 5160
    assert published_batches(999, 10, 0) == 100
    mixture, components = ShardOrder(workers=4, epoch_size=1000, window=2), sets_of(9, each=100)
    batching = Mixed(mixture, components)
    sampler = GlobalBatchSampler(900, 21, shuffle=True, drop_last=True, batching=batching)
    batches = sampler.global_batches()
    assert len(batches) == len(sampler) == 48 and all(len(batch) == 21 for batch in batches)
    assert np.bincount(np.concatenate(batches)).tolist().count(2) == 48 * 21 - 900


def test_shards_are_drawn_by_the_weight_of_their_set() -> None:
    components = sets_of(7, 3, 4)
    mixture = ShardOrder([1.0, 2.0, 0.5], epoch_size=60_000)
    order = order_of(mixture, components)
    shares = np.histogram(order, [0, 70, 100, 140])[0] / len(order)
    assert np.abs(shares - np.array([7, 6, 2]) / 15).max() < 0.02
    named = ShardOrder({"set2": 0.5, "set1": 2.0, "set0": 1.0}, epoch_size=60_000)
    assert np.array_equal(order_of(named, components), order)
    with pytest.raises(ValueError, match="2 weights for 3 groups"):
        Mixed(ShardOrder([1.0, 2.0]), components)


def test_the_published_shuffle_keeps_all() -> None:
    shards = list(range(5282))
    first, second = published_order(shards, 0), published_order(shards, 1)
    assert sorted(first) == sorted(second) == shards and first != second
    drawn = list(islice(published_draws("abc", [1.0, 0.0, 3.0], Random(0)), 400))
    assert drawn.count("b") == 0 and drawn.count("c") == pytest.approx(300, abs=30)


def test_ranges_of_shards() -> None:
    gaps = [Component("a", "", np.array([0, 0, 3, 3, 3])), *sets_of(0, 1, each=2)]
    assert shard_ranges(gaps) == [[(0, 2), (2, 5)], [], [(5, 7)]]


@pytest.mark.parametrize("options", [{"window": 0}, {"workers": -1}, {"epoch_size": 0}])
def test_impossible_orders(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected at least"):
        ShardOrder(**options)
