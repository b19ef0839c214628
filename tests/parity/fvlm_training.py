"""fVLM: the anatomy-wise loss on any number of ranks, a training step and learning rates."""

import tempfile
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from medvlp.checkpoints.adapter import to_published
from medvlp.checkpoints.fvlm import FVLM_TABLE
from medvlp.data.organ_captions import organ_caption
from medvlp.losses.anatomy import AnatomyContrastiveLoss
from medvlp.losses.anatomy_targets import AnatomyTargets, OrganPairs, Targets
from medvlp.optim.schedules import WarmupEpochCosine
from tests.distributed.ranks import run_ranks
from tests.losses.rank_anatomy import anatomy_gradients, captions_batch

from .fvlm_models import build_fvlm, build_tokenizer
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


@handles("fvlm", "train_step")
def train_step(case: Case) -> None:
    config, inputs = case.config, case.inputs
    organs = config["organs"]
    model = build_fvlm(config, case.state_dict)
    mask = inputs["seg"].long()
    flags = model.organ_tokens(mask, intact_only=True)
    case.assert_close("organ_token_flags", flags, case.outputs["organ_token_flags"])
    patients = range(len(mask))
    texts = [
        organ_caption(organ, None, config["captions"][organ][patient], compat="published")
        for patient in patients
        for organ in organs
    ]
    with tempfile.TemporaryDirectory() as folder:
        tokens = build_tokenizer(config, folder)([text.encoder_text for text in texts])
    image = inputs["image_u8"].float() / 255
    one_scan = torch.ones(len(mask), dtype=torch.int64)
    output = model(image, one_scan, mask, tokens, intact_only=True)
    pooled = model.pooling.pool(model.vision(image, one_scan), flags)
    record = _Recorded()
    losses = AnatomyContrastiveLoss(organs, targets=record)(output, _batch(case, patients))
    losses["total"].backward()
    computed = [f"{organ}_itc" for organ in losses if organ != "total"]
    assert computed == config["computed_organs"]
    found = {"loss": losses.pop("total")}
    found |= {f"loss.{organ}_itc": value for organ, value in losses.items()}
    for k in range(len(organs)):
        if f"pids_{k}" in case.outputs:
            found[f"pids_{k}"] = output["present"][:, k].nonzero().flatten()
            found[f"roi_{k}"] = pooled[found[f"pids_{k}"], k]
    found |= _gradients(model)
    _compare(case, "", {name: found[name] for name in case.outputs if name in found})
    abnormal = torch.tensor([text.abnormal for text in texts]).reshape(len(mask), len(organs))
    case.compared.add("organ_abnormal_flags")
    assert torch.equal(abnormal, inputs["organ_abnormal_flags"].bool())
    case.assert_all_compared()


def _gradients(model: nn.Module) -> dict[str, Tensor]:
    gradients = {
        name: torch.zeros_like(weight) if weight.grad is None else weight.grad
        for name, weight in model.named_parameters()
    }
    published = to_published(gradients, FVLM_TABLE)
    return {f"grad.{name}": gradient for name, gradient in published.items()}


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
