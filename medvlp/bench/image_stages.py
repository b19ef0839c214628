"""Where the time of a 2D image goes: each stage of our loader and of the plain one."""

import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import partial
from statistics import median
from typing import Any

import numpy as np
import torch

from medvlp.bench.plain_images import PlainShards, samples
from medvlp.data.caption_choice import MultiCaption
from medvlp.data.collate import Tokenizer
from medvlp.data.image_dataset import decode
from medvlp.data.image_recipe import ImageRecipe
from medvlp.data.sampling import SampleKey, sample_generator
from medvlp.data.shard_images import ShardImages
from medvlp.data.shard_index import expand_shards

STAGES = ("read", "decode", "crop and resize", "into the batch", "caption, tokens")
_TEXTS = 64  # tokenised together
Mark = Callable[[str], None]


def measure_stages(
    shards: str,
    recipes: Mapping[str, ImageRecipe],
    tokenizers: tuple[Tokenizer, Tokenizer],
    *,
    repeats: int,
) -> list[dict[str, Any]]:
    """Return CPU milliseconds per image of each stage, in this process.

    Args:
        shards: Their pattern.
        recipes: Of our loader, by name.
        tokenizers: Ours and the plain one.
        repeats: Rounds in turn, after one that does not count.
    """
    images = ShardImages(shards, name="stages")
    images.open()
    works: dict[str, Callable[[Mark], None]] = {
        name: partial(_ours, images, recipe, tokenizers[0]) for name, recipe in recipes.items()
    }
    first = next(iter(recipes.values()))
    works["plain"] = partial(_plain, shards, first, tokenizers[1])
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for number in range(repeats + 1):
        for name, work in works.items():
            spent = _timed(work)
            for stage in STAGES if number else ():
                found[stage, name].append(1e3 * spent[stage] / len(images))
    table = {stage: {name: median(found[stage, name]) for name in works} for stage in STAGES}
    table["all"] = {name: sum(row[name] for row in table.values()) for name in works}
    return [{"stage": stage, **row} for stage, row in table.items()]


def _timed(work: Callable[[Mark], None]) -> dict[str, float]:
    spent: dict[str, float] = defaultdict(float)
    last = time.process_time()

    def mark(stage: str) -> None:
        nonlocal last
        now = time.process_time()
        spent[stage] += now - last
        last = now

    work(mark)
    return spent


def _ours(images: ShardImages, recipe: ImageRecipe, tokenizer: Tokenizer, mark: Mark) -> None:
    texts, row = MultiCaption(), np.empty((3, recipe.size, recipe.size), np.uint8)
    units = []
    for number in range(len(images)):
        item = images[number]
        mark("read")
        image = decode(item, recipe.draft_side)
        mark("decode")
        generator = sample_generator(0, SampleKey(0, number))
        pixels = recipe.training_input(image, generator)
        mark("crop and resize")
        np.copyto(row, pixels.numpy())
        mark("into the batch")
        units += texts(item.texts, generator)
        texts.statements(item.texts)
        mark("caption, tokens")
    for start in range(0, len(units), _TEXTS):
        tokenizer([unit.text for unit in units[start : start + _TEXTS]])
    mark("caption, tokens")


def _plain(shards: str, recipe: ImageRecipe, tokenizer: Tokenizer, mark: Mark) -> None:
    plain = PlainShards(expand_shards(shards), recipe)
    chance = torch.Generator().manual_seed(0)
    row = torch.empty(3, recipe.size, recipe.size)
    captions: list[str] = []
    for shard in plain.shards:
        for content, text in samples(shard):
            mark("read")
            image = plain.decode(content)
            mark("decode")
            image = plain.cut(image, chance)
            mark("crop and resize")
            row.copy_(plain.normalise(image))
            mark("into the batch")
            captions.append(plain.caption(text))
            mark("caption, tokens")
    for start in range(0, len(captions), _TEXTS):
        tokenizer(captions[start : start + _TEXTS])
    mark("caption, tokens")
