"""UniMed-CLIP: from image files to the network's input, from stored texts to captions."""

import random

import torch

from medvlp.data.caption_choice import caption_candidates, choose_caption
from medvlp.data.image_recipe import ImageRecipe
from medvlp.data.readers.image2d import read_image

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
