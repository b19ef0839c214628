"""Speed of the loader of 2D images from JPEG shards, against plain Pillow and torch."""

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from rich.console import Console
from torch.utils.data import DataLoader

from medvlp.bench.image_shards import mean_pixels, write_shards
from medvlp.bench.image_stages import measure_stages
from medvlp.bench.plain_images import plain_loader
from medvlp.bench.record import cpu_seconds, publish_tables
from medvlp.config import config_dir
from medvlp.data.caption_choice import MultiCaption
from medvlp.data.image_datamodule import ImageDataModule
from medvlp.data.image_recipe import ImageRecipe, TrainingResize
from medvlp.data.shard_images import ShardImages
from medvlp.data.shard_index import expand_shards
from medvlp.text.tokenizers import Padding, WordPieceTokenizer

RECIPE = "clip_image_224"
CONTEXT = 256
RESIZES: tuple[TrainingResize, ...] = ("pillow", "torch", "draft")
PLAIN = "plain Pillow + torch"


def run(options: argparse.Namespace) -> None:
    """Write shards, go through epochs of all loaders in turn, time their stages."""
    torch.set_num_threads(1)
    num_images = 64 if options.quick else options.images
    repeats = 1 if options.quick else options.repeats
    with tempfile.TemporaryDirectory(prefix="medvlp_bench_", dir=options.folder) as folder:
        shards = write_shards(Path(folder), num_images)
        megabytes = sum(path.stat().st_size for path in expand_shards(shards)) / 1e6
        stages = measure_stages(
            shards,
            {f"medvlp, {resize}": load_recipe(resize) for resize in RESIZES},
            (_tokenizer("longest"), _tokenizer("max_length")),
            repeats=repeats,
        )
        tables = {"loader": list[dict[str, Any]](), "stages, CPU ms per image": stages}
        for num_workers in options.workers:
            Console(stderr=True).print(f"measuring {num_workers} workers", highlight=False)
            tables["loader"] += _measure(shards, options.batch, num_workers, repeats)
    notes = [
        f"{num_images} JPEGs in the shares of UniMed's 13 sets, painted in the sizes of their "
        f"sources (on average {mean_pixels() / 1e3:.0f} thousand pixels, "
        f"{1e3 * megabytes / num_images:.0f} kB), to 224 pixels, batches of {options.batch}; "
        f"recipe {RECIPE}; files in the page cache",
        "plain: tar streamed, convert('RGB'), crop, bicubic resize, float32, normalised, default "
        f"collate, captions padded to {CONTEXT}; ours: bytes, normalised on the device",
        "CPU s: of this process and its workers; images per CPU s times cores is what an idle "
        "machine gives; ratios to plain at the same number of workers",
        f"medians of {repeats} epochs in turn, after one that does not count",
    ]
    publish_tables("images", tables, notes, options.json)


def load_recipe(resize: TrainingResize = "pillow") -> ImageRecipe:
    """Build the published recipe with one way to resize in training."""
    fields = OmegaConf.load(config_dir() / "data" / "recipe" / f"{RECIPE}.yaml")
    return instantiate(fields, training_resize=resize, _convert_="all")


def _tokenizer(padding: Padding) -> WordPieceTokenizer:
    return WordPieceTokenizer("phantom", CONTEXT, padding=padding)


def _measure(shards: str, batch: int, num_workers: int, repeats: int) -> list[dict[str, Any]]:
    loaders: dict[str, DataLoader[Any]] = {
        f"medvlp, {resize}": _our_loader(shards, load_recipe(resize), batch, num_workers)
        for resize in RESIZES
    }
    loaders[PLAIN] = plain_loader(
        expand_shards(shards),
        load_recipe(),
        tokenizer=_tokenizer("max_length"),
        batch_size=batch,
        num_workers=num_workers,
    )
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in loaders}
    for number in range(repeats + 1):
        for name, loader in loaders.items():
            pair = _epoch(loader)
            if number:  # the first started the workers, which stay
                seconds[name].append(pair)
    medians = {
        name: (median(wall for wall, _ in pairs), median(cpu for _, cpu in pairs))
        for name, pairs in seconds.items()
    }
    plain_wall, plain_cpu = medians[PLAIN]
    return [
        {
            "loader": name,
            "workers": num_workers,
            "images/s": 1 / wall,
            "images/CPU s": 1 / cpu,
            "ratio in CPU s": plain_cpu / cpu,
            "ratio by the clock": plain_wall / wall,
        }
        for name, (wall, cpu) in medians.items()
    ]


def _our_loader(shards: str, recipe: ImageRecipe, batch: int, num_workers: int) -> DataLoader[Any]:
    module = ImageDataModule(
        recipe,
        train=[ShardImages(shards, name="bench")],
        cache_dir=str(Path(shards).parent),
        tokenizer=_tokenizer("longest"),
        texts=MultiCaption(),
        batch_size=batch,
        num_workers=num_workers,
        inspect=False,
    )
    module.prepare_data()
    module.setup("fit")
    return module.train_dataloader()


def _epoch(loader: DataLoader[Any]) -> tuple[float, float]:
    """Return seconds per image, by the clock and of all processes' CPUs."""
    iterator: Any = loader._iterator  # of the epoch before: its workers stay
    workers = [worker.pid for worker in iterator._workers] if iterator is not None else []
    wall, cpu = time.perf_counter(), cpu_seconds(workers)
    images = sum(len(batch["image"]) for batch in loader)
    return (time.perf_counter() - wall) / images, (cpu_seconds(workers) - cpu) / images
