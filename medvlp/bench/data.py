"""Speed of the data path: reader, preparation, cache, codec and loader, against what others do."""

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import blosc2
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from rich.console import Console

from medvlp.bench import data_cache, data_loader, data_prepare, data_reader
from medvlp.bench.data_files import Files
from medvlp.bench.record import publish_tables
from medvlp.config import config_dir
from medvlp.data.ct_recipe import CTRecipe
from medvlp.types import Size3D

RECIPE = "hlip_chest_ct"
CROP: Size3D = (64, 256, 256)
QUICK: Size3D = (24, 64, 64)


def run(options: argparse.Namespace) -> None:
    """Measure the parts that are asked for and publish their tables."""
    torch.set_num_threads(1)
    blosc2.set_nthreads(1)
    depth, height, width = QUICK if options.quick else options.shape
    z, y, x = options.spacing
    repeats = 1 if options.quick else options.repeats
    with tempfile.TemporaryDirectory(prefix="medvlp_bench_", dir=options.folder) as folder:
        files = Files(Path(folder), (depth, height, width), (z, y, x), options.volumes)
        (files.folder / "small").mkdir()
        small = replace(files, folder=files.folder / "small", shape=(24, 32, 32), count=1)
        tables = {}
        for part, measure in _parts(files, small, options, repeats).items():
            if part in options.parts:
                Console(stderr=True).print(f"measuring {part}", highlight=False)
                tables[part] = measure()
        ratio = files.num_bytes / files.paths[0].stat().st_size
    notes = [
        f"{depth} x {height} x {width} voxels in int16 of {z:g} x {y:g} x {x:g} mm "
        f"({files.num_bytes / 1e6:.0f} MB, .nii.gz {ratio:.2f} times smaller), recipe {RECIPE}; "
        "one thread a process",
        f"medians of {repeats} rounds in turn, after one that does not count; warm: files in the "
        "page cache; cold: dropped from this machine's page cache (the host of a virtual machine "
        "may still hold them); - where the system refuses that",
    ]
    publish_tables("data", tables, notes, options.json)


def _parts(
    files: Files, small: Files, options: argparse.Namespace, repeats: int
) -> dict[str, Callable[[], list[dict[str, Any]]]]:
    recipes = {"float16": load_recipe("float16"), "int16": load_recipe("int16")}
    published = recipes["float16"]
    return {
        "reader": lambda: data_reader.measure(files, small, repeats),
        "prepare": lambda: data_prepare.measure(
            files, small, published, processes=options.processes, repeats=repeats
        ),
        "crop": lambda: data_cache.crops(files, CROP, repeats),
        "whole": lambda: data_cache.whole(files, recipes, repeats),
        "codec": lambda: data_cache.codecs(files, recipes, repeats),
        "loader": lambda: data_loader.measure(
            files, published, workers=options.workers, repeats=repeats
        ),
    }


def load_recipe(store_dtype: str) -> CTRecipe:
    """Build HLIP's published recipe, storing numbers of the given type."""
    fields = OmegaConf.load(config_dir() / "data" / "recipe" / f"{RECIPE}.yaml")
    return instantiate(fields, store_dtype=store_dtype, _convert_="all")
