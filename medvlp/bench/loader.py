"""Speed of the DataModule: what a training loop would be given if it took no time itself."""

import argparse
import time
from itertools import islice
from typing import Any

import torch
from hydra.utils import instantiate

from medvlp.bench.record import publish
from medvlp.bench.scene import scene

TWIN = ["data.source.num_train=512", "data.source.num_valid=32"]


def run(options: argparse.Namespace) -> None:
    """Time batches from memory, then from the cache with different numbers of workers."""
    torch.set_num_threads(1)
    with scene(options.experiment, [*TWIN, *options.overrides]) as tree:
        rows = [measure(tree, num_workers=0, in_memory=True, num_batches=options.batches)]
        rows += [
            measure(tree, num_workers=count, in_memory=False, num_batches=options.batches)
            for count in options.workers
        ]
    notes = [
        f"{options.experiment}: training batches of {tree['data']['batch_size']}, tokenised, "
        "nothing computed with them; the first batch of each row is not counted"
    ]
    publish("loader", rows, notes, options.json)


def measure(
    tree: dict[str, Any], *, num_workers: int, in_memory: bool, num_batches: int
) -> dict[str, Any]:
    """Iterate over the training split."""
    module = instantiate(
        tree["data"] | {"num_workers": num_workers, "in_memory": in_memory}, _convert_="all"
    )
    module.prepare_data()
    module.setup("fit")
    loader = module.train_dataloader()
    scans = batches = 0
    seconds = 0.0
    while batches < num_batches:
        iterator = iter(loader)
        next(iterator)  # starting workers is paid once an epoch
        start = time.perf_counter()
        counts = [len(b["image"]) for b in islice(iterator, num_batches - batches)]
        seconds += time.perf_counter() - start
        if not counts:
            raise ValueError("an epoch has fewer than two batches; lower data.batch_size")
        scans, batches = scans + sum(counts), batches + len(counts)
    return {
        "from": "memory" if in_memory else "cache",
        "workers": num_workers,
        "batches": batches,
        "volumes/s": scans / seconds,
        "ms per batch": 1e3 * seconds / batches,
    }
