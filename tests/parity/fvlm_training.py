"""fVLM: the anatomy-wise loss on any number of ranks, and learning rates."""

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from medvlp.losses.anatomy import AnatomyContrastiveLoss
from medvlp.losses.anatomy_targets import AnatomyTargets, OrganPairs, Targets
from medvlp.optim.schedules import WarmupEpochCosine
from tests.distributed.ranks import run_ranks
from tests.losses.rank_anatomy import anatomy_gradients, captions_batch

from .registry import Case, handles

RATE_TOLERANCE = 1e-12  # relative; the general one would let every rate of 1e-4 pass


@handles("fvlm", "anatomy_loss")
def anatomy_loss(case: Case) -> None:
    record = _Recorded()
    loss = AnatomyContrastiveLoss(case.config["organs"], targets=record)
    patients = range(len(case.inputs["present"]))
    found = anatomy_gradients(0, loss, [_part(case, patients)], [_batch(case, patients)])
    computed = [name.removeprefix("loss.") for name in found if name.startswith("loss.")]
    assert computed == case.config["computed_organs"]
    for name, targets in zip(computed, record.targets, strict=True):
        found[f"targets.{name.removesuffix('_itc')}"] = targets
    _compare(case, "", found)
    case.assert_all_compared()


@handles("fvlm", "anatomy_loss_ranks")
def anatomy_loss_ranks(case: Case) -> None:
    total = len(case.inputs["present"])
    bounds = [0, *_splits(case.config["split"]), total]
    ranks = [range(*ends) for ends in pairwise(bounds)]
    parts = [_part(case, patients) for patients in ranks]
    batches = [_batch(case, patients) for patients in ranks]
    loss = AnatomyContrastiveLoss(case.config["organs"])
    for rank, found in enumerate(run_ranks(anatomy_gradients, len(ranks), loss, parts, batches)):
        _compare(case, f"rank{rank}.", found)
    case.assert_all_compared()


@handles("fvlm", "lr_schedule")
def lr_schedule(case: Case) -> None:
    config, rates = case.config, case.outputs["lr"]
    base = config["init_lr"]
    schedule = WarmupEpochCosine(
        config["warmup_steps"],
        num_epochs=config["max_epoch"],
        start_factor=config["warmup_start_lr"] / base,
        end_factor=config["min_lr"] / base,
    )
    rows = case.inputs["epoch_step"].tolist()
    factors = [schedule.at(epoch, step) for epoch, step in rows]
    per_epoch = 1 + max(step for _, step in rows)
    steps = [epoch * per_epoch + step for epoch, step in rows]
    through_steps = [schedule(step, per_epoch * config["max_epoch"]) for step in steps]
    for found in (factors, through_steps):
        actual = torch.tensor(found, dtype=torch.float64) * base
        case.assert_close("lr", actual / rates, rates / rates, RATE_TOLERANCE)
    case.assert_all_compared()


class _Recorded(AnatomyTargets):
    """Keeps the targets of each organ."""

    def __init__(self) -> None:
        self.targets: list[Tensor] = []

    def __call__(self, pairs: OrganPairs) -> Targets:
        targets = super().__call__(pairs)
        self.targets.append(targets[0])
        return targets


def _splits(split: int | list[int]) -> list[int]:
    return [split] if isinstance(split, int) else split


def _part(case: Case, patients: range) -> dict[str, Tensor]:
    rows = slice(patients.start, patients.stop)
    names = ("image_raw", "text_raw", "present")
    part = {name: case.inputs[name][rows] for name in names}
    return part | {"temperature": torch.tensor([case.config["temperature"]])}


def _batch(case: Case, patients: range) -> Any:
    captions = {organ: case.config["captions"][organ] for organ in case.config["organs"]}
    return captions_batch(captions, patients)


def _compare(case: Case, prefix: str, found: dict[str, Tensor]) -> None:
    for name, actual in found.items():
        golden = case.outputs[prefix + name]
        actual = actual.reshape(golden.shape) if golden.numel() == 1 else actual
        case.assert_close(prefix + name, actual, golden)
