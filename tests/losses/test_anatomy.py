"""Anatomy-wise loss: hand-worked targets, options that reduce to the published rule, and ranks."""

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from medvlp.losses.anatomy import AnatomyContrastiveLoss
from medvlp.losses.anatomy_targets import (
    AnatomyTargets,
    CoTeachingTargets,
    EmaTextTargets,
    OrganPairs,
    Teacher,
    matching_pairs,
)
from tests.distributed.ranks import run_ranks
from tests.losses.rank_anatomy import anatomy_gradients, captions_batch, many_anatomy_gradients
from tests.losses.rank_losses import unit_rows

CAPTIONS = {
    "lung": ["Nodule.", "lung shows no significant abnormalities.", "Effusion.", "Nodule."],
    "heart": ["heart shows no significant abnormalities."] * 3 + ["Large."],
    "liver": ["liver shows no significant abnormalities."] * 4,
}
PRESENT = torch.tensor([[1, 1, 1], [1, 1, 1], [1, 0, 1], [0, 1, 1]], dtype=torch.bool)
SPLITS = {"halves": (0, 2, 4), "empty_rank": (0, 4, 4)}


def _part(start: int, stop: int, present: Tensor = PRESENT) -> dict[str, Tensor]:
    image, text = (unit_rows(12, 5, seed=seed).unflatten(0, (4, 3)) for seed in (1, 2))
    rows = {"image_raw": image, "text_raw": text, "present": present}
    return {name: each[start:stop] for name, each in rows.items()} | {
        "temperature": torch.tensor([0.2])
    }


def _jobs(gradient: Any, bounds: tuple[int, ...], present: Tensor = PRESENT) -> tuple[Any, ...]:
    ranges = list(pairwise(bounds))
    parts = [_part(*ends, present) for ends in ranges]
    batches = [captions_batch(CAPTIONS, range(*ends)) for ends in ranges]
    return AnatomyContrastiveLoss(list(CAPTIONS), gradient=gradient), parts, batches


@pytest.fixture(scope="module")
def ranks() -> list[list[dict[str, Tensor]]]:
    nothing = torch.zeros_like(PRESENT)
    one_sided = PRESENT.clone()
    one_sided[2:] = False
    jobs = [
        _jobs("full", SPLITS["halves"]),
        _jobs("full", SPLITS["empty_rank"]),
        _jobs("published", SPLITS["halves"], nothing),
        _jobs("published", SPLITS["halves"], one_sided),
    ]
    return run_ranks(many_anatomy_gradients, 2, jobs)


def _one_process() -> dict[str, Tensor]:
    return anatomy_gradients(0, *_jobs("published", (0, 4)))


def test_organs_that_teach_nothing_are_left_out():
    found = _one_process()
    assert {name for name in found if name.startswith("loss.")} == {
        "loss.lung_itc",
        "loss.heart_itc",
    }
    assert torch.equal(found["loss"], found["loss.lung_itc"] + found["loss.heart_itc"])
    assert not found["grad.image_raw"][:, 2].any() and not found["grad.image_raw"][3, 0].any()


@pytest.mark.parametrize("job", [0, 1])
def test_full_gradients_averaged_over_ranks_are_those_of_one_process(ranks, job):
    whole, found = _one_process(), [result[job] for result in ranks]
    for result in found:
        torch.testing.assert_close(result["loss"], whole["loss"])
    for name in ("grad.image_raw", "grad.text_raw"):
        joined = torch.cat([result[name] for result in found]) / 2
        torch.testing.assert_close(joined, whole[name])
    mean = torch.stack([result["grad.temp"] for result in found]).mean(0)
    torch.testing.assert_close(mean, whole["grad.temp"])


def test_ranks_with_nothing_return_a_zero_of_the_graph(ranks):
    for result in ranks:
        assert float(result[2]["loss"]) == 0 and set(result[2]) == set(ranks[0][2])
        assert not result[2]["grad.image_raw"].any() and not result[2]["grad.temp"].any()
    learning, idle = ranks[0][3], ranks[1][3]
    assert float(learning["loss"]) > 0 and float(idle["loss"]) == 0
    assert not idle["grad.text_raw"].any()


def _pairs() -> OrganPairs:
    normal = torch.tensor([True, False, False, True])
    positives = matching_pairs(normal, torch.tensor([0, 1, 2, 3]))
    rows = unit_rows(4, 5, seed=3)
    teacher = Teacher(rows, torch.tensor([0.5]), organ=unit_rows(4, 5, seed=4), step=0)
    return OrganPairs(positives, normal, teacher)


@pytest.mark.parametrize(
    "rule", [CoTeachingTargets(0.0), CoTeachingTargets(ramp_steps=9), EmaTextTargets(0.0)]
)
def test_rules_without_weight_are_the_published_one(rule):
    for found, expected in zip(rule(_pairs()), AnatomyTargets()(_pairs()), strict=True):
        assert torch.equal(found, expected)


@pytest.mark.parametrize("rule", [CoTeachingTargets(), EmaTextTargets()])
def test_second_models_only_move_weight_between_abnormal_patients(rule):
    for found in rule(_pairs()):
        torch.testing.assert_close(found.sum(1), torch.ones(4))
        assert torch.equal(found[0], torch.tensor([0.5, 0, 0, 0.5]))
        assert found[1, 2] > 0 and found[1, 0] == found[1, 3] == 0


def test_co_teaching_worked_by_hand():
    pairs = OrganPairs(
        torch.eye(2, dtype=torch.bool),
        torch.tensor([False, False]),
        Teacher(torch.eye(2), torch.ones(1), organ=torch.eye(2)),
    )
    other = 0.5 / (1 + math.e)
    expected = torch.tensor([[1 - other, other], [other, 1 - other]])
    torch.testing.assert_close(CoTeachingTargets(0.5)(pairs)[0], expected)


def test_bad_input_is_explained():
    loss, parts, batches = _jobs("published", (0, 4))
    with pytest.raises(ValueError, match="lacks text_study"):
        anatomy_gradients(0, loss, parts, [{}])
    doubled = batches[0] | {"text_organ": torch.zeros_like(batches[0]["text_organ"])}
    with pytest.raises(ValueError, match="one text per organ and study"):
        anatomy_gradients(0, loss, parts, [doubled])
    with pytest.raises(ValueError, match="has 3 organs, the loss 1"):
        anatomy_gradients(0, AnatomyContrastiveLoss(["lung"]), parts, batches)
    with pytest.raises(ValueError, match="give the loss a Teacher"):
        CoTeachingTargets()(OrganPairs(_pairs().positives, _pairs().normal))
    with pytest.raises(ValueError, match="give the loss a Teacher"):
        EmaTextTargets()(OrganPairs(_pairs().positives, _pairs().normal))
    with pytest.raises(ValueError, match="alpha is 2"):
        CoTeachingTargets(2.0)


@pytest.mark.parametrize("rule", [CoTeachingTargets(), EmaTextTargets()])
def test_second_models_are_compared_in_full_precision(rule):
    expected = rule(_pairs())
    with torch.autocast("cpu", torch.bfloat16):
        found = rule(_pairs())
    for half, full in zip(found, expected, strict=True):
        assert torch.equal(half, full)
