"""HLIP's losses, learning rates and optimizer steps, the latter through our own system."""

import re
from collections import defaultdict
from collections.abc import Mapping
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from medvlp.checkpoints.hlip import export_hlip, load_hlip
from medvlp.losses.contrastive import ClipLoss, SigLipLoss
from medvlp.losses.dual import DualTokenLoss
from medvlp.losses.published_accumulation import PublishedAccumulation
from medvlp.models.two_tower import TwoTower
from medvlp.optim.schedules import WarmupConstant, WarmupCooldown, WarmupCosine
from medvlp.systems.contrastive import ContrastiveSystem
from medvlp.types import TextKind, Tokens, VolumeBatch
from tests.distributed.ranks import run_ranks
from tests.losses.rank_losses import loss_and_gradients, many_losses
from tests.systems.tiny import Record, fit, make_trainer

from .hlip_models import build_two_tower, packed
from .registry import Case, handles

LOSS_TOLERANCE = 1e-6
STEP_LOSS_TOLERANCE = 1e-5
STEP_WEIGHT_TOLERANCE = 2e-5


@handles("hlip", "loss_clip")
def loss_clip(case: Case) -> None:
    _single_process(case, ClipLoss())


@handles("hlip", "loss_siglip")
def loss_siglip(case: Case) -> None:
    _single_process(case, SigLipLoss())


@handles("hlip", "loss_dual_newer")
def loss_dual_newer(case: Case) -> None:
    texts = [case.inputs["text_sentence"], case.inputs["text_report"]]
    size = len(texts[0])
    given = {
        "image": case.inputs["image_features"],
        "text": torch.stack(texts, 1).flatten(0, 1),
        "logit_scale": torch.tensor([case.config["log_scale_sentence"]]),
        "second_logit_scale": torch.tensor([case.config["log_scale_report"]]),
    }
    batch = {
        "text_kind": torch.tensor([TextKind.SENTENCE, TextKind.REPORT] * size),
        "text_study": torch.arange(size).repeat_interleave(2),
    }
    found = loss_and_gradients(0, DualTokenLoss(ClipLoss()), [given], [batch])
    found["sentence_text"], found["report_text"] = found["text"][::2], found["text"][1::2]
    names = {"loss": "loss", "loss_sentence": "sentence", "loss_report": "report"}
    names |= {"grad_image": "image", "grad_log_scale_sentence": "logit_scale"}
    names |= {"grad_log_scale_report": "second_logit_scale"}
    names |= {"grad_text_sentence": "sentence_text", "grad_text_report": "report_text"}
    for golden, ours in names.items():
        expected = case.outputs[golden]
        case.assert_close(
            golden, found[ours].reshape(expected.shape), expected, _tolerance(expected)
        )
    case.assert_all_compared()


@handles("hlip", "loss_distributed")
def loss_distributed(case: Case) -> None:
    by_world: dict[int, list[Mapping[str, Any]]] = defaultdict(list)
    for entry in case.config["cases"]:
        by_world[entry["world_size"]].append(entry)
    for world, entries in by_world.items():
        jobs = [(_loss(entry), _parts(case, entry), [{}] * world) for entry in entries]
        results = run_ranks(many_losses, world, jobs)
        for k, entry in enumerate(entries):
            _compare_ranks(case, entry["key"], [result[k] for result in results])
    case.assert_all_compared()


@handles("hlip", "lr_schedules")
def lr_schedules(case: Case) -> None:
    config = case.config
    base, warmup, total = config["base_lr"], config["warmup"], config["total"]
    for name in set(config) - {"system", "kind", "warmup", "total", "base_lr", "steps"}:
        schedule = _schedule(name, warmup, total, base)
        rates = [base * schedule(step, total) for step in config["steps"]]
        assert rates == pytest.approx(config[name], rel=1e-9, abs=base * 1e-12), name


@handles("hlip", "train_steps")
def train_steps(case: Case) -> None:
    config = case.config
    model = build_two_tower(
        config, freeze=_freeze(config), logit_bias_init=0.0 if config["siglip"] else None
    )
    assert load_hlip(model, case.state_dict).complete
    model.forward_chunks = config["accum_freq"]
    record = Record()
    system = _system(model, config)
    trainer = make_trainer(callbacks=[record], max_epochs=config["epochs"])
    fit(trainer, system, _batches(case))
    losses = config["loss_calls"][:: config["accum_freq"]]
    assert record.losses == pytest.approx(losses, rel=0, abs=STEP_LOSS_TOLERANCE)
    assert record.rates == pytest.approx(_rates(config), rel=1e-9)
    _compare_groups(case, model, trainer.optimizers[0])
    _compare_weights(case, export_hlip(model))
    case.assert_all_compared()


def _tolerance(golden: Tensor) -> float:
    return LOSS_TOLERANCE * max(1.0, float(golden.abs().max()))


def _single_process(case: Case, loss: nn.Module) -> None:
    given = {
        "image": case.inputs["image_features"],
        "text": case.inputs["text_features"],
        "logit_scale": torch.tensor([case.config["log_scale"]]),
    }
    names = {"loss": "loss", "grad_image": "image", "grad_text": "text"}
    names["grad_log_scale"] = "logit_scale"
    if case.config["bias"] is not None:
        given["logit_bias"] = torch.tensor([float(case.config["bias"])])
        names["grad_bias"] = "logit_bias"
    found = loss_and_gradients(0, loss, [given], [{}])
    for golden, ours in names.items():
        expected = case.outputs[golden]
        case.assert_close(
            golden, found[ours].reshape(expected.shape), expected, _tolerance(expected)
        )
    case.assert_all_compared()


def _loss(entry: Mapping[str, Any]) -> nn.Module:
    if entry["kind"] == "siglip":
        return SigLipLoss(exchange=entry["loss_dist_impl"])
    return ClipLoss(local_loss=entry["local_loss"], gather_with_grad=entry["gather_with_grad"])


def _parts(case: Case, entry: Mapping[str, Any]) -> list[dict[str, Tensor]]:
    shared = {"logit_scale": torch.tensor([float(entry["log_scale"])])}
    if entry["bias"] is not None:
        shared["logit_bias"] = torch.tensor([float(entry["bias"])])
    key, world = entry["key"], entry["world_size"]
    images, texts = (case.inputs[f"{key}.{name}"].chunk(world) for name in ("image", "text"))
    return [{"image": i, "text": t} | shared for i, t in zip(images, texts, strict=True)]


def _compare_ranks(case: Case, key: str, found: list[dict[str, Tensor]]) -> None:
    zero = torch.zeros(1)
    stacked = {
        "loss_per_rank": torch.stack([result["loss"] for result in found]),
        "grad_image": torch.cat([result["image"] for result in found]),
        "grad_text": torch.cat([result["text"] for result in found]),
        "grad_log_scale_per_rank": torch.cat([result["logit_scale"] for result in found]),
        "grad_bias_per_rank": torch.cat([result.get("logit_bias", zero) for result in found]),
    }
    for name, actual in stacked.items():
        golden = case.outputs[f"{key}.{name}"]
        case.assert_close(f"{key}.{name}", actual, golden, _tolerance(golden))


def _schedule(name: str, warmup: int, total: int, base: float) -> WarmupConstant:
    if name == "cosine":
        return WarmupCosine(warmup)
    if name == "const":
        return WarmupConstant(warmup)
    match = re.fullmatch(r"cooldown_quarter_power(\d+)_end(0|1e(\d+))", name)
    assert match, f"unknown schedule {name}"
    end = 0.0 if match[2] == "0" else 10.0 ** -int(match[3])
    return WarmupCooldown(
        warmup, cooldown_steps=total // 4, power=float(match[1]), end_factor=end / base
    )


def _freeze(config: Mapping[str, Any]) -> Any:
    if not config["lock_text"]:
        return "none"
    return "all" if config["lock_text_freeze_layer_norm"] else "all_but_layer_norm"


def _system(model: TwoTower, config: Mapping[str, Any]) -> ContrastiveSystem:
    loss = SigLipLoss() if config["siglip"] else ClipLoss()
    return ContrastiveSystem(
        model,
        PublishedAccumulation(loss, accum_freq=config["accum_freq"]),
        optimizer=partial(
            torch.optim.AdamW,
            lr=config["lr"],
            betas=tuple(config["betas"]),
            eps=config["eps"],
            weight_decay=config["wd"],
        ),
        schedule=WarmupCosine(config["warmup"]),
    )


def _batches_per_step(config: Mapping[str, Any]) -> int:
    return config["accum_batch"] * config["accum_freq"]


def _rates(config: Mapping[str, Any]) -> list[float]:
    """Pick the rate of each step's first micro-batch; an epoch's incomplete step is never made."""
    size, per_epoch = _batches_per_step(config), config["micro_batches"]
    starts = range(0, per_epoch - size + 1, size)
    calls = [epoch * per_epoch + start for epoch in range(config["epochs"]) for start in starts]
    return [config["lr_calls"][call][1] for call in calls]


def _batches(case: Case) -> list[VolumeBatch]:
    """Concatenate the micro-batches of a step: what a larger batch_size is here."""
    size = _batches_per_step(case.config)
    images, texts = (case.inputs[name].split(size) for name in ("images", "texts"))
    batches = []
    for image, text in zip(images, texts, strict=True):
        if len(image) < size:
            continue
        scans, num_scans = packed(image.flatten(0, 1))
        ids = text.flatten(0, 1)
        names = [f"study{k}" for k in range(len(ids))]
        batches.append(
            VolumeBatch(
                image=scans,
                num_scans=num_scans,
                study_id=names,
                sample_id=names,
                patient_id=names,
                recipe_hash="golden",
                tokens=Tokens(ids, ids != 0),
                text_study=torch.arange(len(ids)),
            )
        )
    return batches


def _compare_groups(case: Case, model: TwoTower, optimizer: torch.optim.Optimizer) -> None:
    published = dict(zip(model.state_dict(), export_hlip(model), strict=True))
    name_of = {id(p): published[name] for name, p in model.named_parameters()}
    for group, golden in zip(
        optimizer.param_groups, ("no_decay_params", "decay_params"), strict=True
    ):
        assert {name_of[id(p)] for p in group["params"]} == set(case.config[golden]), golden
        assert group["weight_decay"] == (0.0 if golden == "no_decay_params" else case.config["wd"])


def _compare_weights(case: Case, weights: Mapping[str, Tensor]) -> None:
    loose = case.config["key_bias_tolerance"]
    for name, golden in case.outputs.items():
        actual = weights[name.removeprefix("final.")]
        tolerance = torch.full_like(golden, STEP_WEIGHT_TOLERANCE)
        if name.endswith("attn.qkv.bias"):
            tolerance.chunk(3)[1].fill_(loose)
        elif name.endswith("attention.self.key.bias"):
            tolerance.fill_(loose)
        # scaled so that one number serves both tolerances
        case.assert_close(name, actual / tolerance, golden / tolerance, 1.0)
