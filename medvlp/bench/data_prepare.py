"""From .nii.gz to what a loader reads: `medvlp.prepare` against the pipeline others write."""

import json
import multiprocessing
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F

from medvlp.bench.data_files import Chests, Files
from medvlp.bench.data_memory import peak_bytes
from medvlp.data.ct_recipe import CTRecipe
from medvlp.data.engine import LocalEngine
from medvlp.data.preparation import prepare_dataset
from medvlp.data.scan import Rescale

Prepare = Callable[[Chests, CTRecipe, Path], None]


def measure(
    files: Files, small: Files, recipe: CTRecipe, *, processes: list[int], repeats: int
) -> list[dict[str, Any]]:
    """Prepare different scans in every process, ours and the baseline in turn."""
    out = files.folder / "prepared"
    peaks = {
        name: peak_bytes(
            _prepare_anew, (work, small.source(0, 1), recipe, out), work, _one(files), recipe, out
        )
        for name, work in WAYS.items()
    }
    rows = []
    for number in processes:
        seconds = _in_processes(files, recipe, out, number, repeats)
        for name, (wall, cpu) in seconds.items():
            rows.append(
                {
                    "prepare": name,
                    "processes": number,
                    "CPU s/volume": cpu,
                    "wall s/volume": wall,
                    "volumes/s": 1 / wall,
                    "volumes/s of baseline": seconds["baseline"][0] / wall,
                    "same, CPU time": seconds["baseline"][1] / cpu,
                    "peak / raw array": peaks[name] / files.num_bytes,
                }
            )
    return rows


def ours(source: Chests, recipe: CTRecipe, out: Path) -> None:
    """Prepare with everything: checks, quarantine, manifest, files that are whole or not there."""
    prepare_dataset(source, recipe, cache_dir=out, engine=LocalEngine(0))


def baseline(source: Chests, recipe: CTRecipe, out: Path) -> None:
    """Do the published steps with nibabel and PyTorch: floats, HU, trilinear, half, save."""
    from nibabel.nifti1 import load

    out.mkdir(parents=True, exist_ok=True)
    for study in source.studies():
        image = load(study.scans[0].path)
        rule = study.scans[0].rescale or Rescale()
        values = image.get_fdata() * rule.slope + rule.intercept
        volume = torch.from_numpy(values).float().permute(2, 1, 0)  # slices, rows, columns
        x, y, z = (float(length) for length in image.header.get_zooms()[:3])
        size = [
            int(length * spacing / target)
            for length, spacing, target in zip(
                volume.shape, (z, y, x), recipe.spacing_mm, strict=True
            )
        ]
        resized = F.interpolate(volume[None, None], size=size, mode="trilinear")[0, 0]
        torch.save(resized.half(), out / f"{study.study_id}.pt")
        (out / f"{study.study_id}.json").write_text(json.dumps({"shape": size}))


WAYS: dict[str, Prepare] = {"medvlp": ours, "baseline": baseline}


def _one(files: Files) -> Chests:
    return files.source(0, 1)


def _in_processes(
    files: Files, recipe: CTRecipe, out: Path, number: int, repeats: int
) -> dict[str, tuple[float, float]]:
    """Return median wall and CPU seconds per volume."""
    sources = [files.source(k, 1) for k in range(number)]
    context = multiprocessing.get_context("spawn")
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in WAYS}
    # a barrier makes each process take one task, and all start at the same time
    with (
        context.Manager() as manager,
        ProcessPoolExecutor(number, context, torch.set_num_threads, (1,)) as pool,
    ):
        barrier = manager.Barrier(number)
        for round_number in range(repeats + 1):
            for name, work in WAYS.items():
                task = partial(_timed, work, recipe=recipe, out=out, barrier=barrier)
                pairs = list(pool.map(task, sources))
                if round_number:  # the first imports
                    pair = max(wall for wall, _ in pairs) / number, median(c for _, c in pairs)
                    seconds[name].append(pair)
    return {
        name: (median(w for w, _ in pairs), median(c for _, c in pairs))
        for name, pairs in seconds.items()
    }


def _timed(
    work: Prepare, source: Chests, *, recipe: CTRecipe, out: Path, barrier: Any
) -> tuple[float, float]:
    folder = out / source.name
    shutil.rmtree(folder, ignore_errors=True)
    barrier.wait()
    wall, cpu = time.perf_counter(), time.process_time()
    work(source, recipe, folder)
    return time.perf_counter() - wall, time.process_time() - cpu


def _prepare_anew(work: Prepare, source: Chests, recipe: CTRecipe, out: Path) -> None:
    shutil.rmtree(out / source.name, ignore_errors=True)
    work(source, recipe, out / source.name)
