import json
import logging
from collections import Counter
from typing import Any

import numpy as np
import pytest

from medvlp.data.mixing import Component, Mixed, Mixture
from medvlp.data.packed_rows import PackedRows
from medvlp.data.sampling import GlobalBatchSampler
from medvlp.data.shard_order import ShardOrder


def sets_of(**sizes: int) -> list[Component]:
    """Sets named `<modality>_<name>`, or of one modality each."""
    return [
        Component(name, name.split("_")[0], np.zeros(size, np.int64))
        for name, size in sizes.items()
    ]


def order_of(mixture: Mixture, components: list[Component], epoch: int = 0, batch: int = 4) -> Any:
    return mixture.order(components, batch, seed=0, epoch=epoch)


def names_of(order: np.ndarray, components: list[Component]) -> list[str]:
    ends = np.cumsum([len(one.shards) for one in components])
    return [components[number].name for number in np.searchsorted(ends, order, side="right")]


def test_without_weights_an_epoch_shows_everything_once() -> None:
    first, second = (order_of(Mixture(), sets_of(a=5, b=7), epoch) for epoch in (0, 1))
    assert sorted(first) == list(range(12)) and first.tolist() != second.tolist()


def test_weights_decide_the_shares_and_small_sets_repeat_evenly() -> None:
    components = sets_of(a=1000, b=10, c=500)
    order = order_of(Mixture([3.0, 1.0, 0.0], epoch_size=8000), components)
    counts = Counter(names_of(order, components))
    assert len(order) == 8000 and "c" not in counts
    assert counts["a"] == pytest.approx(6000, abs=2)
    times = np.bincount(order[order >= 1000] - 1000)
    assert times.max() - times.min() <= 1  # whole permutations, one after the other


def test_weights_have_names() -> None:
    components = sets_of(a=10, b=10)
    listed, named = Mixture([1.0, 3.0]), Mixture({"b": 3.0, "a": 1.0})
    assert order_of(listed, components).tolist() == order_of(named, components).tolist()


def test_the_published_weight_is_that_of_each_shard() -> None:
    """Sets of 7, 3 and 4 shards with weights 1, 2 and 0.5: shares 7, 6 and 2 of 15."""
    mixture = Mixture([1.0, 2.0, 0.5], weight_of="sample")
    shares = mixture.shares(sets_of(a=7000, b=3000, c=4000))
    assert list(shares.values()) == pytest.approx([7 / 15, 6 / 15, 2 / 15])


def test_sets_of_a_modality_share_its_weight_by_their_size() -> None:
    components = sets_of(ct_a=300, mri_b=50, ct_c=100)
    mixture = Mixture({"ct": 1.0, "mri": 1.0}, by="modality", epoch_size=800)
    counts = Counter(names_of(order_of(mixture, components), components))
    expected = {"ct_a": 300, "ct_c": 100, "mri_b": 400}
    assert all(abs(counts[name] - number) <= 2 for name, number in expected.items())


def test_every_batch_holds_the_shares() -> None:
    components = sets_of(ct=300, mri=50, xray=1000)
    mixture = Mixture({"ct": 0.5, "mri": 0.3, "xray": 0.2}, by="modality", epoch_size=6400)
    names = np.array(names_of(order_of(mixture, components), components)).reshape(-1, 64)
    for name, share in (("ct", 32), ("mri", 19.2), ("xray", 12.8)):
        assert np.abs((names == name).sum(axis=1) - share).max() < 3


@pytest.mark.parametrize(("temperature", "expected"), [(1.0, 0.9), (2.0, 0.75), (1e6, 0.5)])
def test_temperature_evens_the_sizes_out(temperature: float, expected: float) -> None:
    shares = Mixture(temperature=temperature).shares(sets_of(a=900, b=100))
    assert shares["a"] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("options", [{}, {"weights": [1.0, 1.0]}, {"temperature": 2.0}])
def test_a_batch_of_one_modality(options: dict[str, Any]) -> None:
    components = sets_of(ct=22, mri=41)
    mixture = Mixture(by="modality", one_per_batch=True, **options)
    sampler = GlobalBatchSampler(
        63, 4, shuffle=True, drop_last=True, batching=Mixed(mixture, components)
    )
    batches = sampler.global_batches()
    assert len(sampler) == len(batches) == 15
    modalities = [set(names_of(batch, components)) for batch in batches]
    assert all(len(found) == 1 for found in modalities) and len(set(map(str, modalities))) == 2
    if not options:
        assert len({int(sample) for batch in batches for sample in batch}) == 60


@pytest.mark.parametrize(
    "mixture",
    [
        Mixture(),
        Mixture([1.0, 3.0], epoch_size=50),
        Mixture(temperature=3.0, by="modality"),
        Mixture(one_per_batch=True),
        ShardOrder(workers=3),
        ShardOrder([1.0, 2.0], window=2),
    ],
)
def test_ranks_see_the_same_global_batches(mixture: Mixture) -> None:
    def sampler(rank: int, world_size: int) -> GlobalBatchSampler:
        batching = Mixed(mixture, sets_of(a=40, b=8))
        ranks = {"rank": rank, "world_size": world_size}
        return GlobalBatchSampler(48, 8, shuffle=True, drop_last=True, batching=batching, **ranks)

    alone = list(sampler(0, 1))
    together = [[*a, *b] for a, b in zip(sampler(0, 2), sampler(1, 2), strict=True)]
    assert alone == together
    later = sampler(0, 1)
    later.first_batch = 2
    assert list(later) == alone[2:]


def test_a_group_without_samples_is_named(caplog: pytest.LogCaptureFixture) -> None:
    components = sets_of(a=5, b=0)
    with pytest.raises(ValueError, match=r"no usable sample of b, but a weight.*quarantine"):
        Mixed(Mixture([1.0, 1.0]), components)
    with caplog.at_level(logging.WARNING):
        Mixed(Mixture(), components)
        Mixed(Mixture(temperature=2.0), components)
    assert caplog.text.count("nothing of b is trained on") == 2
    assert Mixture(temperature=2.0).shares(components) == {"a": 1.0, "b": 0.0}


@pytest.mark.parametrize("mixture", [Mixture(), Mixture(temperature=2.0), ShardOrder()])
def test_sets_without_any_sample_are_refused(mixture: Mixture) -> None:
    with pytest.raises(ValueError, match=r"no set has a usable sample to train on: a, b; the log"):
        Mixed(mixture, sets_of(a=0, b=0))


def test_a_group_that_fills_no_batch_is_named(caplog: pytest.LogCaptureFixture) -> None:
    batching = Mixed(Mixture(one_per_batch=True), sets_of(a=9, b=3, c=0))
    with caplog.at_level(logging.WARNING):
        GlobalBatchSampler(12, 4, shuffle=True, drop_last=True, batching=batching)
    assert "nothing of b (3) is trained on: no batch of 4" in caplog.text


@pytest.mark.parametrize(
    "mixture", [Mixture({"a": 1.0, "b": 2.0}), ShardOrder([1.0, 2.0], workers=2)]
)
def test_what_decides_the_batches_survives_a_checkpoint(mixture: Mixture) -> None:
    described = Mixed(mixture, sets_of(a=4, b=5)).describe()
    assert json.loads(json.dumps(described)) == described
    assert described["sizes"] == {"a": 4, "b": 5}


def test_weights_must_fit_the_groups() -> None:
    thirteen = sets_of(**{f"set{number}": 10 for number in range(13)})
    with pytest.raises(ValueError, match=r"12 weights for 13 groups \(set0, set1"):
        Mixed(Mixture([1.0] * 12), thirteen)
    with pytest.raises(ValueError, match=r"name ct that is not there and leave out mri"):
        Mixed(Mixture({"ct": 1.0, "xray": 1.0}, by="modality"), sets_of(xray=3, mri=3))
    with pytest.raises(ValueError, match="the set a has no modality"):
        Mixed(Mixture([1.0], by="modality"), [Component("a", "", np.zeros(3, np.int64))])
    with pytest.raises(ValueError, match="two sets are named a"):
        Mixed(Mixture([1.0, 1.0]), [*sets_of(a=3), *sets_of(a=3)])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights": [0.0, 0.0]}, "one above 0"),
        ({"weights": {}}, "one above 0"),
        ({"weights": {"a": -1.0}}, "one above 0"),
        ({"epoch_size": 5}, "needs weights"),
        ({"by": "modalities"}, "expected 'set' or 'modality'"),
        ({"weight_of": "shard"}, "'group' or 'sample'"),
        ({"temperature": 0.0}, "above 0"),
        ({"temperature": 1.0, "weights": [1.0]}, "must not be given"),
    ],
)
def test_impossible_mixtures(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Mixture(**options)


def test_packed_rows() -> None:
    rows = [{"a": "ü"}, [], {"b": {"c": 1}}]
    packed = PackedRows(rows)
    assert list(packed) == rows and len(packed) == 3
    with pytest.raises(IndexError, match="row 3 of 3"):
        packed[3]
