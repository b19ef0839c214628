"""UniMed-CLIP's loss in its four modes on any number of ranks, and its learning rate."""

from itertools import product

import torch
from torch import Tensor

from medvlp.losses.contrastive import ClipLoss
from medvlp.optim.schedules import WarmupCosine
from tests.distributed.ranks import run_ranks
from tests.losses.rank_losses import loss_and_gradients, many_losses

from .registry import Case, handles

RATE_TOLERANCE = 1e-12  # the README's; the general one would let an offset of one step pass
SPLIT = ("image", "text")
MODES = {
    f"local{local:d}_gradgather{grad:d}": ClipLoss(local_loss=local, gather_with_grad=grad)
    for local, grad in product((False, True), repeat=2)
}


@handles("unimed_clip", "loss_single")
def loss_single(case: Case) -> None:
    _compare(case, "", loss_and_gradients(0, ClipLoss(), [_given(case)], [{}]))
    case.assert_all_compared()


@handles("unimed_clip", "loss_distributed")
def loss_distributed(case: Case) -> None:
    whole, world = _given(case), case.config["world_size"]
    rows = {name: whole[name].chunk(world) for name in SPLIT}
    parts = [whole | {name: rows[name][rank] for name in SPLIT} for rank in range(world)]
    jobs = [(loss, parts, [{}] * world) for loss in MODES.values()]
    by_rank = run_ranks(many_losses, world, jobs)
    for k, mode in enumerate(MODES):
        found = [results[k] for results in by_rank]
        joined = {name: torch.cat([result[name] for result in found]) for name in SPLIT}
        for name in ("loss", "logit_scale"):
            joined[name] = torch.stack([result[name].reshape(()) for result in found])
        _compare(case, f"{mode}.", joined)
    _compare(case, "global.", loss_and_gradients(0, ClipLoss(), [whole], [{}]))
    case.assert_all_compared()


@handles("unimed_clip", "lr_schedule")
def lr_schedule(case: Case) -> None:
    for k, entry in enumerate(case.config["cases"]):
        schedule, steps = WarmupCosine(entry["warmup"]), case.outputs[f"steps_{k}"]
        factors = [schedule(step, entry["total_steps"]) for step in steps.tolist()]
        case.compared.add(f"steps_{k}")
        rates = torch.tensor(factors, dtype=torch.float64) * entry["base_lr"]
        case.assert_close(f"lr_{k}", rates, case.outputs[f"lr_{k}"], RATE_TOLERANCE)
    case.assert_all_compared()


def _tolerance(case: Case) -> float | None:
    return case.config.get("tolerance", {}).get("default")


def _given(case: Case) -> dict[str, Tensor]:
    return {
        "image": case.inputs["image_features"],
        "text": case.inputs["text_features"],
        "logit_scale": case.inputs["logit_scale"].reshape(1),
    }


def _compare(case: Case, prefix: str, found: dict[str, Tensor]) -> None:
    suffix = "_per_rank" if prefix not in ("", "global.") else ""
    names = {"loss" + suffix: "loss", "grad_logit_scale" + suffix: "logit_scale"}
    names |= {f"grad_{name}": name for name in SPLIT}
    for name, ours in names.items():
        golden = case.outputs[prefix + name]
        case.assert_close(
            prefix + name, found[ours].reshape(golden.shape), golden, _tolerance(case)
        )
