from itertools import chain

import numpy as np
import pytest

from medvlp.data.batching import Batching, FixedSize, SampleFacts, SimilarLength
from medvlp.data.sampling import GlobalBatchSampler
from medvlp.data.token_budget import TokenBudget

WORLDS = range(1, 6)


def facts(num_samples: int, seed: int = 0, most_scans: int = 9) -> SampleFacts:
    generator = np.random.default_rng(seed)
    scans = generator.integers(1, most_scans + 1, num_samples)
    return SampleFacts(scans, generator.integers(10, 2000, num_samples), "digest")


def sampler(
    samples: SampleFacts,
    batching: Batching,
    batch_size: int = 60,
    *,
    training: bool = True,
    rank: int = 0,
    world_size: int = 1,
    epoch: int = 0,
) -> GlobalBatchSampler:
    made = GlobalBatchSampler(
        samples,
        batch_size,
        shuffle=training,
        drop_last=training,
        seed=3,
        rank=rank,
        world_size=world_size,
        batching=batching,
    )
    made.set_epoch(epoch)
    return made


def indices(made: GlobalBatchSampler) -> list[list[int]]:
    return [[key.sample for key in batch] for batch in made]


def test_by_hand() -> None:
    samples = SampleFacts(np.array([3, 1, 2, 2, 4, 1]), np.zeros(6, np.int64))
    made = sampler(samples, TokenBudget(4), training=False)
    assert indices(made) == [[0, 1], [2, 3], [4], [5]]
    # 5 waits until a batch has room: rows that do not fit are passed over, in order
    samples = SampleFacts(np.array([3, 2, 2, 1]), np.zeros(4, np.int64))
    assert indices(sampler(samples, TokenBudget(4), training=False)) == [[0, 3], [1, 2]]
    # two shares of 4, rows (0, 2) and (1, 3): the larger of a row to the share that holds less
    samples = SampleFacts(np.array([3, 1, 2, 1]), np.zeros(4, np.int64))
    assert indices(sampler(samples, TokenBudget(8, shares=2), training=False)) == [[0, 3, 2, 1]]


@pytest.mark.parametrize("world_size", WORLDS)
@pytest.mark.parametrize("epoch", range(3))
def test_no_rank_exceeds_its_part_and_all_have_as_many_samples(world_size: int, epoch: int) -> None:
    samples, batching = facts(500), TokenBudget(60 * 30, tokens_per_scan=30, shares=world_size)
    ranks = [
        indices(sampler(samples, batching, rank=rank, world_size=world_size, epoch=epoch))
        for rank in range(world_size)
    ]
    assert len({len(rank) for rank in ranks}) == 1
    for parts in zip(*ranks, strict=True):
        assert len({len(part) for part in parts}) == 1
        assert all(samples.num_scans[part].sum() <= 60 // world_size for part in parts)
    seen = [index for rank in ranks for part in rank for index in part]
    assert len(set(seen)) == len(seen)  # nobody twice in an epoch
    assert len(seen) > 0.9 * len(samples)


@pytest.mark.parametrize("batching", [TokenBudget(120, shares=12), FixedSize(), SimilarLength(3)])
def test_global_batches_are_the_same_for_any_number_of_ranks(batching: Batching) -> None:
    samples = facts(300)
    reference = indices(sampler(samples, batching))
    for world_size in (2, 3, 4):
        ranks = [
            indices(sampler(samples, batching, rank=rank, world_size=world_size))
            for rank in range(world_size)
        ]
        assert [[*chain(*parts)] for parts in zip(*ranks, strict=True)] == reference


@pytest.mark.parametrize("num_samples", [1, 7, 101])
@pytest.mark.parametrize("world_size", WORLDS)
@pytest.mark.parametrize("kind", ["fixed", "budget", "length"])
def test_an_evaluation_has_all_samples_once(kind: str, world_size: int, num_samples: int) -> None:
    kinds = {
        "fixed": FixedSize(),
        "budget": TokenBudget(30 * world_size, shares=world_size),
        "length": SimilarLength(2),
    }
    samples, batching = facts(num_samples), kinds[kind]
    ranks = [
        indices(sampler(samples, batching, 60, training=False, rank=rank, world_size=world_size))
        for rank in range(world_size)
    ]
    assert len({len(rank) for rank in ranks}) == 1 and all(all(rank) for rank in ranks)
    seen = [index for rank in ranks for part in rank for index in part]
    assert set(seen) == set(range(num_samples))
    assert len(seen) - num_samples < world_size  # repeats, dropped again by their sample_id


@pytest.mark.parametrize("batching", [TokenBudget(64), TokenBudget(64, shares=4), SimilarLength(4)])
def test_epochs_have_one_length_known_beforehand(batching: Batching) -> None:
    samples = facts(1000)
    batches = [indices(sampler(samples, batching, epoch=epoch)) for epoch in range(20)]
    assert {len(epoch) for epoch in batches} == {len(sampler(samples, batching))}
    assert batches[0] != batches[1]
    assert batches[1] == indices(sampler(samples, batching, epoch=1))
    everybody = {index for epoch in batches for batch in epoch for index in batch}
    assert everybody == set(range(1000))  # what one epoch leaves out comes in another


def test_at_most_batch_size_studies() -> None:
    made = sampler(facts(100, most_scans=1), TokenBudget(1000, shares=4), 10)
    assert {len(batch) for batch in indices(made)} == {8}  # whole rows of four
    assert len(made) == 12


def test_impossible_budgets() -> None:
    samples = facts(50)
    with pytest.raises(ValueError, match="max_tokens is 0, tokens_per_scan 1 and shares 1"):
        TokenBudget(0)
    with pytest.raises(ValueError, match=r"9 tokens \(9 scans\), a share of the batch holds 8; ra"):
        sampler(samples, TokenBudget(16, shares=2))
    with pytest.raises(ValueError, match="shares is 2 and there are 3 processes"):
        sampler(samples, TokenBudget(64, shares=2), world_size=3)
    with pytest.raises(ValueError, match=r"batch_size is 2, but a batch has 4 shares"):
        sampler(samples, TokenBudget(64, shares=4), batch_size=2)
    with pytest.raises(ValueError, match="3 samples do not fill one batch"):
        sampler(facts(3), TokenBudget(64, shares=4))


def test_similar_lengths_by_hand() -> None:
    lengths = np.array([5, 1, 4, 2, 3, 9, 8])
    samples = SampleFacts(np.ones(7, np.int64), lengths)
    made = sampler(samples, SimilarLength(2), 2, training=False)
    # two windows of four and of two samples, and the sample that fills no batch
    assert indices(made) == [[1, 3], [2, 0], [4, 5], [6]]


def test_similar_lengths_save_padding_and_leave_out_no_length() -> None:
    samples = facts(1000)

    def padded(batching: Batching) -> float:
        batches = [samples.text_length[batch] for batch in indices(sampler(samples, batching, 16))]
        return 1 - sum(b.sum() for b in batches) / sum(b.max() * len(b) for b in batches)

    assert padded(SimilarLength(16)) < 0.1 < 0.4 < padded(FixedSize())
    left_out = [
        set(range(1000))
        - {i for b in indices(sampler(samples, SimilarLength(16), 16, epoch=e)) for i in b}
        for e in range(40)
    ]
    lengths = [samples.text_length[list(out)].mean() for out in left_out]
    assert abs(np.mean(lengths) - samples.text_length.mean()) < 100
    with pytest.raises(ValueError, match="window is 0"):
        SimilarLength(0)
