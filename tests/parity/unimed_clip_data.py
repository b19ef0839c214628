"""UniMed-CLIP: from images to input, from stored texts to captions, from shards to batches."""

import random
import re
from itertools import islice

import numpy as np
import torch

from medvlp.data.caption_choice import caption_candidates, choose_caption
from medvlp.data.image_recipe import ImageRecipe
from medvlp.data.mixing import Component, Mixed, Mixture
from medvlp.data.readers.image2d import read_image
from medvlp.data.sampling import GlobalBatchSampler
from medvlp.data.shard_index import expand_range
from medvlp.data.shard_order import (
    ShardOrder,
    published_batches,
    published_draws,
    published_order,
)

from .registry import Case, handles

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
SAME_DECODER, JPEG_DECODER = 1e-6, 0.03  # the README's tolerances


@handles("unimed_clip", "preprocess_eval")
def preprocess_eval(case: Case) -> None:
    """Resize in the file's own mode, as published; grey results hold one channel."""
    recipe = ImageRecipe(case.config["image_size"], mean=MEAN, std=STD, compat="published")
    for name, entry in case.config["images"].items():
        image = read_image(case.path / "images" / name).image
        assert (image.mode, list(image.size)) == (entry["mode"], entry["size"])
        if "error" in entry:
            continue  # the published code raises; ours may do better
        actual = recipe.finish(recipe.evaluation_input(image))
        tolerance = JPEG_DECODER if name.endswith((".jpg", ".jpeg")) else SAME_DECODER
        expected = case.outputs[name]
        case.assert_close(name, actual[: len(expected)], expected, atol=tolerance)
    case.assert_all_compared()


@handles("unimed_clip", "caption_choice")
def caption_choice(case: Case) -> None:
    """List what each stored text can become, and draw with Python's generator as published."""
    for entry in case.config["cases"]:
        candidates = caption_candidates(entry["text"], "published")
        assert sorted(set(candidates)) == sorted(entry["candidates"]), entry["text"]
        generator = random.Random(case.config["seed"])
        expected = entry["first_8_with_python_seed"]
        assert [choose_caption(candidates, generator) for _ in expected] == expected, entry["text"]


@handles("unimed_clip", "preprocess_train")
def preprocess_train(case: Case) -> None:
    """Draw the crops of torch's seeds and cut them in the file's own mode; images by name."""
    size, scale, ratio = (case.config[name] for name in ("image_size", "scale", "ratio"))
    recipe = ImageRecipe(
        size, mean=MEAN, std=STD, crop_scale=scale, crop_ratio=ratio, compat="published"
    )
    images = sorted((case.path / "images").iterdir())
    crops = case.config["crop_top_left_height_width"]
    for number, (seed, crop) in enumerate(zip(case.config["torch_seeds"], crops, strict=True)):
        path = images[number % len(images)]
        image = read_image(path).image
        left, top, right, bottom = box = recipe.random_box(
            image.size, torch.Generator().manual_seed(seed)
        )
        assert [top, left, bottom - top, right - left] == crop
        pixels = recipe.cut(image, box)
        case.assert_close(f"uint8_{number}", pixels, case.outputs[f"uint8_{number}"])
        name = f"float_{number}"
        case.assert_close(name, recipe.finish(pixels), case.outputs[name], atol=SAME_DECODER)
    case.assert_all_compared()


@handles("unimed_clip", "shard_order")
def shard_order(case: Case) -> None:
    """Order and draw shards as published, count its batches, and give each to one rank only."""
    config = case.config
    parts = [expand_range(part) for part in config["urls"].split("::")]
    urls = [url for part in parts for url in part]
    world_size, workers = config["world_size"], config["workers"]
    for name, epoch in config["epochs"].items():
        order = published_order(urls, config["seed"] + int(name.removeprefix("epoch_")))
        assert order == epoch["global_order"], name
        for key, own in epoch["split"].items():
            rank, worker = map(int, re.findall(r"\d+", key))
            assert order[rank::world_size][worker::workers] == own, f"{name}, {key}"
    drawn = config["resampled"]
    weights = [float(weight) for weight in drawn["weights"].split("::")]
    each = [weight for weight, part in zip(weights, parts, strict=True) for _ in part]
    draws = published_draws(urls, each, random.Random(drawn["rng_seed"]))
    assert list(islice(draws, len(drawn["first_30"]))) == drawn["first_30"]
    for entry in config["epoch_arithmetic"]:
        global_batch = entry["batch_per_gpu"] * entry["world"]
        batches = published_batches(entry["num_samples"], global_batch, entry["workers"])
        assert batches == entry["batches_per_epoch"]
        assert batches * global_batch == entry["samples_per_epoch"]
    components = [
        Component(part[0].rpartition("/")[0], "", np.repeat(np.arange(len(part)), 100))
        for part in parts
    ]
    ours = Mixture(weights, weight_of="sample").shares(components)
    assert all(abs(ours[name] - share) < 0.01 for name, share in drawn["share_of_30000"].items())
    _check_split(components, world_size)


def _check_split(components: list[Component], world_size: int) -> None:
    """Give every sample of an epoch to one rank."""
    total, batch_size = sum(len(one.shards) for one in components), world_size
    batching = Mixed(ShardOrder(window=3), components)
    seen = [
        key.sample
        for rank in range(world_size)
        for batch in GlobalBatchSampler(
            total,
            batch_size,
            shuffle=True,
            drop_last=True,
            batching=batching,
            rank=rank,
            world_size=world_size,
        )
        for key in batch
    ]
    assert len(set(seen)) == len(seen) == total - total % batch_size
