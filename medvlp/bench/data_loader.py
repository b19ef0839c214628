"""The loader: what a training loop would be given if it took no time itself."""

import time
from statistics import median
from typing import Any

import torch

from medvlp.bench.data_files import Files, evict
from medvlp.data.ct_recipe import CTRecipe
from medvlp.data.engine import LocalEngine
from medvlp.data.splits import Splits
from medvlp.data.volume_datamodule import VolumeDataModule


def measure(
    files: Files, recipe: CTRecipe, *, workers: list[int], repeats: int
) -> list[dict[str, Any]]:
    """Go through epochs with different workers, all warm but the last."""
    rows = []
    for num_workers in workers:
        for dense in ("worker", "device"):
            module = VolumeDataModule(
                files.source(),
                recipe,
                cache_dir=str(files.folder / "loader"),
                batch_size=2,
                splits=Splits(0.0),
                num_workers=num_workers,
                dense=dense,
                engine=LocalEngine(0),
            )
            module.prepare_data()
            module.setup("fit")
            rows.append(
                {"workers": num_workers, "dense half in": dense} | _epochs(files, module, repeats)
            )
    return rows


def _epochs(files: Files, module: VolumeDataModule, repeats: int) -> dict[str, Any]:
    loader = module.train_dataloader()
    _epoch(loader)  # starts the workers, which stay
    warm = [_epoch(loader) for _ in range(repeats)]
    gone = [evict(path) for path in (files.folder / "loader").rglob("*.b2nd")]
    return {
        "volumes/s": median(wall for wall, _ in warm),
        "cold": _epoch(loader)[0] if all(gone) else None,
        "volumes/CPU s of this process": median(cpu for _, cpu in warm),
        "batches in": "pinned memory" if torch.cuda.is_available() else "ordinary memory",
    }


def _epoch(loader: Any) -> tuple[float, float]:
    """Return volumes per second by the clock, and per second of this process's CPU time."""
    wall, cpu = time.perf_counter(), time.process_time()
    volumes = sum(len(batch["image"]) for batch in loader)
    return volumes / (time.perf_counter() - wall), volumes / (time.process_time() - cpu)
