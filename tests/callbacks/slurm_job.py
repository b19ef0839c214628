"""A Slurm job as a process sees it, with a stand-in for `scontrol` that writes down its calls."""

import os
import warnings
from pathlib import Path
from typing import Any

from lightning.pytorch.strategies import DDPStrategy

from medvlp.callbacks.slurm_requeue import SlurmRequeue
from tests.callbacks.stoppable import Net, Step, run

JOB = {"SLURM_JOB_ID": "4711", "SLURM_STEP_ID": "0", "SLURM_JOB_NAME": "unimed"}


def stand_in(folder: Path, code: int = 0) -> str:
    """Write `scontrol` and return a PATH that finds it first."""
    script = folder / "scontrol"
    script.write_text(f'#!/bin/sh\necho "$@" >> "{folder}/calls"\necho refused >&2\nexit {code}\n')
    script.chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


def calls(folder: Path) -> list[str]:
    """List what `scontrol` was asked to do."""
    file = folder / "calls"
    return file.read_text().splitlines() if file.is_file() else []


def run_in_job(net: Net, keep: SlurmRequeue, **options: Any) -> None:
    """Train with the callback, a kind of checkpoint in Lightning's eyes."""
    run(net, keep, enable_checkpointing=True, **options)


def leave(rank: int, world: int, folder: Path, warned_rank: int, signal: Any) -> dict[str, Any]:
    """Train until Slurm's warning, which one rank alone hears in its step 7."""
    warnings.simplefilter("ignore")
    os.environ.update(JOB, PATH=stand_in(folder) if rank == 0 else os.environ["PATH"])
    net = Net(7 if rank == warned_rank else -1, signal)
    keep = SlurmRequeue(str(folder), every_n_steps=4)
    try:
        run_in_job(net, keep, strategy=DDPStrategy(), devices=world, max_epochs=3)
    except SystemExit:
        return {"steps": len(net.steps)}
    return {"steps": -1}


def resumed(resume: Path) -> list[Step]:
    """Go on from a checkpoint to the end of the third epoch."""
    net = Net()
    run(net, resume=resume, max_epochs=3)
    return net.steps
