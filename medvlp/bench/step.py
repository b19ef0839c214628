"""Overhead of the framework: Lightning and our system over a plain PyTorch loop.

Both train the same model from the same weights on the same batches, one step each in turn, so
that their losses agree and a busy machine slows both.
"""

import argparse
import copy
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import lightning.pytorch as pl
import torch
from hydra.utils import instantiate
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from medvlp.bench.record import publish
from medvlp.bench.scene import scene
from medvlp.bench.timing import synchronise
from medvlp.models.two_tower import TwoTower
from medvlp.optim.groups import decay_groups
from medvlp.types import VolumeBatch

TWIN = ["data.source.num_train=256", "data.source.num_valid=32", "trainer.precision=32-true"]


def run(options: argparse.Namespace) -> None:
    """Fit once with the plain loop running along, and publish both medians."""
    torch.set_num_threads(options.threads)
    steps = options.steps + max(2, options.steps // 10)
    trainer = [f"trainer.max_steps={steps}", f"trainer.accelerator={options.device}"]
    with scene(options.experiment, [*TWIN, *options.overrides, *trainer]) as tree:
        alongside = fit_alongside(tree, options.batches, torch.device(options.device))
    skip = steps - options.steps
    framework, plain = alongside.framework[skip:], alongside.plain[skip:]
    ratios = [ours / bare for ours, bare in zip(framework, plain, strict=True)]
    row = {
        "batch": tree["data"]["batch_size"],
        "steps": len(plain),
        "framework ms": 1e3 * median(framework),
        "plain ms": 1e3 * median(plain),
        "overhead": f"{median(framework) / median(plain) - 1:+.1%}",
        "paired overhead": f"{median(ratios) - 1:+.1%}",
        "last losses": f"{alongside.losses[0]:.6f} {alongside.losses[1]:.6f}",
    }
    notes = [
        f"{options.experiment}: a training step with its loggers and checkpoint callbacks, batches "
        "in memory; paired: median of the ratios of neighbouring steps",
        "the last losses of framework and plain loop show that both did the same work",
    ]
    publish("step", [row], notes, options.json)


class Alongside(Callback):
    """Repeat every step of the Trainer by a plain loop, and time both.

    Args:
        step: One plain step on a batch; returns its loss.
        device: To wait for.

    Attributes:
        framework: Seconds from the end of one plain step to the end of the Trainer's next.
        plain: Seconds of the plain steps.
        losses: Of framework and plain loop at the last step.
    """

    def __init__(self, step: Callable[[VolumeBatch], Tensor], device: torch.device) -> None:
        self.step = step
        self.device = device
        self.framework: list[float] = []
        self.plain: list[float] = []
        self.losses = (0.0, 0.0)
        self._mark = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self._mark = time.perf_counter()

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: VolumeBatch,
        batch_idx: int,
    ) -> None:
        """Stop the framework's clock, run the plain step, start again."""
        synchronise(self.device)
        end = time.perf_counter()
        loss = self.step(batch)
        synchronise(self.device)
        after = time.perf_counter()
        self.framework.append(end - self._mark)
        self.plain.append(after - end)
        if trainer.global_step == trainer.max_steps:
            self.losses = (float(outputs["loss"]), float(loss))
        self._mark = time.perf_counter()


def fit_alongside(tree: dict[str, Any], num_batches: int, device: torch.device) -> Alongside:
    """Run the Trainer of the experiment on repeated batches, with the plain loop in step."""
    pl.seed_everything(tree["seed"], verbose=False)
    module = instantiate(tree["data"], _convert_="all")
    module.prepare_data()
    module.setup("fit")
    batches = list(module.train_dataloader())[:num_batches]
    system = instantiate(tree["system"], _convert_="all")
    alongside = Alongside(plain_step(tree, system.model, device), device)
    callbacks = instantiate(tree["callbacks"], _convert_="all")
    trainer: pl.Trainer = instantiate(
        tree["trainer"] | {"limit_val_batches": 0, "barebones": False},
        callbacks=[*callbacks.values(), alongside],
        logger=list(instantiate(tree["logger"], _convert_="all").values()),
        _convert_="all",
    )
    repeated = _Repeated(batches, tree["trainer"]["max_steps"])
    trainer.fit(system, DataLoader(repeated, batch_size=None))
    return alongside


def plain_step(
    tree: dict[str, Any], model: TwoTower, device: torch.device
) -> Callable[[VolumeBatch], Tensor]:
    """Write the step out: forward, loss, backward, clip, update, schedule, clamp."""
    model = copy.deepcopy(model).to(device).train()
    loss = instantiate(tree["loss"], _convert_="all")
    schedule = instantiate(tree["schedule"], _convert_="all")
    optimizer: Optimizer = instantiate(tree["optim"], _convert_="all")(
        decay_groups(model, tree["system"]["no_decay"])
    )
    total, clip = tree["trainer"]["max_steps"], tree["trainer"]["gradient_clip_val"]
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda k: schedule(k, total))

    def step(batch: VolumeBatch) -> Tensor:
        assert "tokens" in batch
        optimizer.zero_grad()
        value = loss(model(batch["image"], batch["num_scans"], batch["tokens"]), batch)["total"]
        value.backward()
        if clip:
            torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        scheduler.step()
        model.clamp_logit_scale()
        return value.detach()

    return step


class _Repeated(torch.utils.data.Dataset[VolumeBatch]):
    def __init__(self, batches: list[VolumeBatch], length: int) -> None:
        self.batches, self.length = batches, length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> VolumeBatch:
        return self.batches[index % len(self.batches)]
