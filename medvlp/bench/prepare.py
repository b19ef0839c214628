"""Speed of preparation: raw files of the phantom twin to the cache, by number of processes."""

import argparse
import shutil
import time
from pathlib import Path
from typing import Any

from hydra.utils import instantiate

from medvlp.bench.record import publish
from medvlp.bench.scene import scene
from medvlp.data.engine import LocalEngine
from medvlp.data.preparation import prepare_dataset

TWIN = ["data.source.num_train=64", "data.source.num_valid=16"]


def run(options: argparse.Namespace) -> None:
    """Prepare the same raw files anew for every number of processes."""
    with scene(options.experiment, [*TWIN, *options.overrides]) as tree:
        source = instantiate(tree["data"]["source"], _convert_="all")
        source.materialise()
        rows = [measure(tree, num_workers) for num_workers in options.workers]
    notes = [f"{options.experiment}: reading, checking, resampling, compressing, manifest"]
    publish("prepare", rows, notes, options.json)


def measure(tree: dict[str, Any], num_workers: int) -> dict[str, Any]:
    """Prepare into an empty cache beside the experiment's own."""
    source, recipe = (instantiate(tree["data"][key], _convert_="all") for key in _PARTS)
    cache = Path(tree["paths"]["run"]) / f"cache_{num_workers}"
    start = time.perf_counter()
    manifest = prepare_dataset(
        source, recipe, cache_dir=cache, engine=LocalEngine(num_workers=num_workers)
    )
    seconds = time.perf_counter() - start
    paths = {scan.path for study in source.studies() for scan in study.scans}
    stored = sum(path.stat().st_size for path in cache.rglob("*") if path.is_file())
    num_scans = sum(len(study["scans"]) for study in manifest)
    shutil.rmtree(cache)
    return {
        "processes": num_workers,
        "volumes": num_scans,
        "seconds": seconds,
        "volumes/s": num_scans / seconds,
        "raw MB": sum(path.stat().st_size for path in paths) / 1e6,
        "cache MB": stored / 1e6,
    }


_PARTS = ("source", "recipe")
