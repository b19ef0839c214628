"""UniMed-CLIP's loss in its four modes on any number of ranks, learning rates and steps."""

from collections.abc import Mapping
from functools import partial
from itertools import product
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from medvlp.checkpoints.adapter import to_published
from medvlp.checkpoints.systems import load_weights
from medvlp.checkpoints.unimed_clip import UNIMED_CLIP
from medvlp.data.image_recipe import ImageRecipe
from medvlp.losses.contrastive import ClipLoss
from medvlp.models.two_tower import TwoTower
from medvlp.optim.schedules import WarmupCosine
from medvlp.systems.contrastive import ContrastiveSystem
from medvlp.types import ImageBatch
from tests.distributed.ranks import run_ranks
from tests.losses.rank_losses import loss_and_gradients, many_losses
from tests.systems.tiny import Record, fit, make_trainer

from .registry import Case, handles
from .unimed_clip_data import MEAN, STD
from .unimed_clip_models import build_two_tower, ones_for, tokens_of

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


@handles("unimed_clip", "train_steps")
def train_steps(case: Case) -> None:
    config = case.config
    model, schedule = build_two_tower(config), WarmupCosine(config["warmup"])
    assert load_weights(model, case.state_dict).complete
    system = ContrastiveSystem(
        model,
        ClipLoss(local_loss=True, gather_with_grad=True),
        optimizer=partial(
            torch.optim.AdamW,
            lr=config["base_lr"],
            betas=tuple(config["betas"]),
            eps=config["eps"],
            weight_decay=config["weight_decay"],
        ),
        # the published run was longer than what was recorded of it
        schedule=lambda step, _: schedule(step, config["total_steps"]),
    )
    steps, seen = Record(), _Seen()
    trainer = make_trainer(callbacks=[steps, seen])
    fit(trainer, system, _batches(case))
    found = {"loss": steps.losses, "lr": steps.rates}
    found |= {"grad_norm": seen.norms, "logit_scale_param": seen.scales}
    for name, values in found.items():
        golden, limit = case.outputs[name], config["tolerance"].get(name)
        unit = torch.ones_like(golden)
        if limit is None:
            limit, unit = config["tolerance"][f"{name}_relative"], golden
        actual = torch.tensor(values, dtype=torch.float64).reshape(golden.shape)
        case.assert_close(name, actual / unit, golden / unit, limit)
    _compare_groups(case, model, trainer.optimizers[0])
    _compare_weights(case, to_published(model.state_dict(), UNIMED_CLIP))
    case.assert_all_compared()


class _Seen(pl.Callback):
    """Keeps the norm of each step's gradient and the scale after its clamp."""

    def __init__(self) -> None:
        self.norms: list[float] = []
        self.scales: list[float] = []

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        gradients = [weight.grad for weight in pl_module.parameters() if weight.grad is not None]
        self.norms.append(float(torch.nn.utils.get_total_norm(gradients)))

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        assert isinstance(pl_module, ContrastiveSystem)
        self.scales.append(pl_module.model.logit_scale.item())


def _batches(case: Case) -> list[ImageBatch]:
    steps = range(len(case.outputs["loss"]))
    return [_batch(case, f"{step}") for step in steps]


def _batch(case: Case, step: str) -> ImageBatch:
    """Normalise bytes as the DataModule does on the device."""
    image = case.inputs[f"image_uint8_{step}"]
    recipe = ImageRecipe(image.shape[-1], mean=MEAN, std=STD)
    names = [f"image{k}" for k in range(len(image))]
    return ImageBatch(
        image=recipe.finish(image),
        num_scans=ones_for(image),
        study_id=names,
        sample_id=names,
        patient_id=names,
        recipe_hash=recipe.hash,
        labels=torch.empty(len(image), 0, dtype=torch.int64),
        metadata=[{} for _ in names],
        tokens=tokens_of(case.inputs[f"input_ids_{step}"]),
        text_study=torch.arange(len(image)),
    )


def _compare_groups(case: Case, model: TwoTower, optimizer: torch.optim.Optimizer) -> None:
    published = to_published(model.state_dict(), UNIMED_CLIP)
    name_of = dict(zip(model.state_dict(), published, strict=True))
    names = {id(weight): name_of[name] for name, weight in model.named_parameters()}
    expected = {"no_decay": 0.0, "decay": case.config["weight_decay"]}
    for group, (which, decay) in zip(optimizer.param_groups, expected.items(), strict=True):
        assert {names[id(weight)] for weight in group["params"]} == set(case.config[which]), which
        assert group["weight_decay"] == decay


def _compare_weights(case: Case, weights: Mapping[str, Tensor]) -> None:
    tolerance = case.config["tolerance"]
    limits = {name: torch.full_like(weight, tolerance["final"]) for name, weight in weights.items()}
    for entry in case.config["key_biases"]:
        limits[entry["name"]][slice(*entry["rows"])] = tolerance["final_key_biases"]
    for name, weight in weights.items():
        # scaled so that one number serves both tolerances
        golden = case.outputs[f"final.{name}"] / limits[name]
        case.assert_close(f"final.{name}", weight / limits[name], golden, 1.0)
