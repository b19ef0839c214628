"""Speed of the phantom generator on one core."""

import argparse
import time

import torch

from medvlp.bench.record import publish
from medvlp.phantom.grid import Grid
from medvlp.phantom.study import Kernel, paint_study, sample_study

FIELD_OF_VIEW_MM = 360.0
KERNEL = Kernel(noise_hu=20.0, blur=0.8)


def run(options: argparse.Namespace) -> None:
    """Paint studies at every size, one after the other in this process."""
    torch.set_num_threads(1)
    rows = [measure(size, options.studies) for size in options.sizes]
    notes = [f"{options.studies} studies with all that is drawn and painted, without writing files"]
    publish("phantom generator", rows, notes, options.json)


def measure(size: int, num_studies: int) -> dict[str, float | str]:
    """Paint different studies on a cube of `size` voxels a side."""
    step = FIELD_OF_VIEW_MM / size
    grid = Grid((size, size, size), (step, step, step))
    _paint(grid, 0)  # fills the caches of coordinates and texture
    wall, cpu = time.perf_counter(), time.process_time()
    for study in range(1, num_studies + 1):
        _paint(grid, study)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {
        "grid": f"{size}^3",
        "volumes/s": num_studies / wall,
        "volumes/CPU s": num_studies / cpu,
        "ms per volume": 1e3 * wall / num_studies,
    }


def _paint(grid: Grid, number: int) -> None:
    study = sample_study((0, number), (0, number))
    paint_study(study, grid, KERNEL, (0, number, 1))
