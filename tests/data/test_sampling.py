import numpy as np
import pytest

from medvlp.data.sampling import (
    AllScans,
    EachLesion,
    EachQuestion,
    EachScan,
    GlobalBatchSampler,
    RandomQuestion,
    RandomScan,
    SampleKey,
    sample_generator,
)


def batches(num_samples: int, batch_size: int, world_size: int, **options: bool) -> list[list[int]]:
    """Global batches, put together from all ranks."""
    ranks = [
        list(
            GlobalBatchSampler(
                num_samples, batch_size, seed=1, rank=rank, world_size=world_size, **options
            )
        )
        for rank in range(world_size)
    ]
    assert len({len(rank) for rank in ranks}) == 1
    assert all(len({len(part) for part in parts}) == 1 for parts in zip(*ranks, strict=True))
    return [[key.sample for part in parts for key in part] for parts in zip(*ranks, strict=True)]


def test_global_batches_do_not_depend_on_the_number_of_ranks() -> None:
    one = batches(22, 4, 1, shuffle=True, drop_last=True)
    assert one == batches(22, 4, 2, shuffle=True, drop_last=True)
    assert one == batches(22, 4, 4, shuffle=True, drop_last=True)
    assert len(one) == 5 and len({index for batch in one for index in batch}) == 20


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_evaluation_sees_every_sample_and_repeats_few(world_size: int) -> None:
    seen = [
        i for batch in batches(10, 4, world_size, shuffle=False, drop_last=False) for i in batch
    ]
    assert list(dict.fromkeys(seen)) == list(range(10))
    assert len(seen) - 10 < world_size


def test_epochs_differ_and_repeat() -> None:
    sampler = GlobalBatchSampler(20, 20, shuffle=True, drop_last=True)
    orders = []
    for epoch in (0, 1, 0):
        sampler.set_epoch(epoch)
        orders.append([key.sample for key in next(iter(sampler))])
    assert orders[0] == orders[2] != orders[1]
    assert next(iter(sampler))[0].epoch == 0


def test_impossible_batches() -> None:
    with pytest.raises(ValueError, match="counts all 2 processes together"):
        GlobalBatchSampler(10, 3, shuffle=True, drop_last=True, world_size=2)
    with pytest.raises(ValueError, match="3 samples do not fill one batch of 4"):
        GlobalBatchSampler(3, 4, shuffle=True, drop_last=True)


def test_chance_follows_from_seed_epoch_and_sample() -> None:
    draw = {
        (seed, epoch, sample): sample_generator(seed, SampleKey(epoch, sample)).random()
        for seed in range(2)
        for epoch in range(2)
        for sample in range(2)
    }
    assert len(set(draw.values())) == 8
    assert draw[0, 1, 0] == sample_generator(0, SampleKey(1, 0)).random()


def test_scan_choices() -> None:
    generator = np.random.default_rng(0)
    study = {"study_id": "s", "scans": [{"scan_id": name} for name in "abc"]}
    assert RandomScan().samples(study) == [("s", (0, 1, 2), None)]
    drawn = [RandomScan().choose((0, 1, 2), generator)[0] for _ in range(50)]
    assert set(drawn) == {0, 1, 2}
    each = [("a", (0,), None), ("b", (1,), None), ("c", (2,), None)]
    assert EachScan().samples(study) == each
    assert EachScan().choose((1,), generator) == [1]
    assert AllScans().choose((0, 1, 2), generator) == [0, 1, 2]
    two = AllScans(2).choose((0, 1, 2), generator)
    assert len(two) == 2 and two == sorted(two)


def test_lesions_and_questions_are_samples_of_their_own() -> None:
    lesion, question = {"lesion_id": "l7"}, {"question": "Where?", "answer": "Left lung"}
    study = {"study_id": "s", "scans": [{}, {}], "lesions": [lesion], "questions": [question] * 2}
    assert EachLesion().samples(study) == [("s/l7", (0, 1), lesion)]
    assert [spec.sample_id for spec in EachQuestion().samples(study)] == ["s/0", "s/1"]
    assert EachLesion().samples({"study_id": "s", "scans": [{}]}) == []


def test_a_question_is_drawn_for_each_study_that_has_some() -> None:
    choice, generator = RandomQuestion(), np.random.default_rng(0)
    questions = [{"question": name, "answer": "yes"} for name in "abc"]
    study = {"study_id": "s", "scans": [{}, {}], "questions": questions}
    (spec,) = choice.samples(study)
    assert spec == ("s", (0, 1), None)
    drawn = [choice.target(spec, study, generator) for _ in range(40)]
    assert all(row in drawn for row in questions)
    assert choice.samples({"study_id": "s", "scans": [{}], "questions": []}) == []
    lesion = {"lesion_id": "l"}
    (about,) = EachLesion().samples({"study_id": "s", "scans": [{}], "lesions": [lesion]})
    assert EachLesion().target(about, {}, generator) == lesion


def test_published_training_permutes_the_scans_and_repeats_those_of_a_short_study() -> None:
    choice, scans = AllScans(5, compat="published"), (3, 4)
    drawn = [choice.choose(scans, np.random.default_rng(seed)) for seed in range(20)]
    assert {tuple(one) for one in drawn} == {(3, 4, 3, 4, 3), (4, 3, 4, 3, 4)}
    many = choice.choose(range(9), np.random.default_rng(0))
    assert len(set(many)) == 5 and list(many) != sorted(many)
    assert list(many) == list(choice.choose(range(9), np.random.default_rng(0)))
    with pytest.raises(ValueError, match="max_scans, which is not set"):
        AllScans(compat="published")
