"""HSENet's second stage: its teacher, its slices, ranks, going on."""

from pathlib import Path
from typing import Any

import pytest
import torch

from medvlp.systems.dual_stage import DualStageSystem
from tests.distributed.ranks import run_launched
from tests.systems.dual_stage_runs import (
    RELATION_STEPS,
    make_batch,
    make_clip,
    make_stage2,
    make_system,
    no_init,
    ranked,
    train,
)
from tests.systems.tiny import MeanScore, fit, loader, make_trainer

pytestmark = pytest.mark.filterwarnings(
    "ignore:::lightning",
    "ignore:.*LeafSpec:FutureWarning",  # of runs as tiny as these
)


def test_the_teacher_runs_while_its_weight_lasts_and_never_changes():
    found = train()
    assert found["calls"] == RELATION_STEPS
    before = make_stage2().state_dict()
    for name, tensor in found["weights"].items():
        if name.startswith("teacher."):
            assert torch.equal(tensor, before[name])
    assert not torch.equal(found["weights"]["raw_scale"], before["raw_scale"])


def test_an_evaluation_uses_the_slices_and_not_the_teacher():
    model = make_stage2()
    system = make_system(model, evaluations={"mean": MeanScore()})
    scores = []
    other: Any = {**make_batch(0), "slice_features": torch.ones(8, 3, 5)}
    for batch in (make_batch(0), other):
        make_trainer().test(system, loader([batch]), verbose=False)  # pyright: ignore
        scores.append(system.results["mean"].metrics()["mean"])
    teacher: Any = model.teacher
    assert teacher.calls == 0 and scores[0] != scores[1]


def test_two_processes_train_as_one_does():
    single = train()
    for found in run_launched(ranked, 2, 2):
        assert found["losses"] == pytest.approx(single["losses"], abs=1e-5)
        torch.testing.assert_close(found["weights"], single["weights"], rtol=0, atol=1e-5)
        assert found["calls"] == RELATION_STEPS


def test_a_resumed_run_needs_no_first_stage_and_ends_the_same(tmp_path: Path):
    straight = train()
    train(save=tmp_path / "half.ckpt")
    resumed = train(resume=tmp_path / "half.ckpt")
    assert resumed["losses"] == straight["losses"][2:]
    torch.testing.assert_close(resumed["weights"], straight["weights"], rtol=0, atol=0)


def test_the_teacher_runs_without_dropout_unless_as_published():
    model = make_stage2().train()
    assert model.vision.training and not any(m.training for m in model.teacher.modules())  # pyright: ignore
    model.teacher_dropout = True
    assert model.train().teacher.training and not model.eval().teacher.training  # pyright: ignore


def test_the_raw_scale_is_decayed_as_published():
    system = make_system(make_stage2())
    vectors, decayed = system.parameter_groups()
    assert any(p is system.model.raw_scale for p in decayed["params"])
    assert all(p.ndim < 2 for p in vectors["params"])
    total = len(vectors["params"]) + len(decayed["params"])
    assert total == len(list(make_clip(stage=2).parameters()))


@pytest.mark.parametrize("case", ["random", "no teacher", "no relation", "no slices"])
def test_what_cannot_be_trained_is_refused(case: str):
    model = make_stage2() if case != "no teacher" else make_clip(stage=2)
    system = make_system(model, init=None if case == "random" else no_init)
    if case == "no teacher":
        system.loss = make_system(make_stage2()).loss
    if case == "no relation":
        system.loss = system.loss.get_submodule("contrastive")
    message = {
        "random": "give the checkpoint of the first stage",
        "no teacher": "the model has no teacher",
        "no relation": "the model has a teacher",
        "no slices": "features of each scan's slices and none came",
    }[case]
    with pytest.raises(ValueError, match=message):
        fit(make_trainer(), system, [make_batch(0, slices=case != "no slices")])


def test_an_evaluation_may_leave_the_teacher_out(tmp_path: Path):
    train(save=tmp_path / "half.ckpt")
    system: DualStageSystem = make_system(make_clip(stage=2, seed=5))
    system.evaluations = {"mean": MeanScore()}  # pyright: ignore
    make_trainer().test(
        system, loader([make_batch(0)]), ckpt_path=tmp_path / "half.ckpt", weights_only=True
    )
    weights = torch.load(tmp_path / "half.ckpt", weights_only=True)["state_dict"]
    assert torch.equal(system.model.raw_scale, weights["model.raw_scale"])
