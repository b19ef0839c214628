"""Answers of a language model that sees: several questions at once, against one after another.

Before anything is timed, both must write the same tokens.
"""

import argparse
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from medvlp.bench.record import Row, publish
from medvlp.bench.timing import interleaved
from medvlp.heads.spatial_packer import SpatialPacker
from medvlp.models.hsenet_vlm import HSENetVLM
from medvlp.text.language_model import Ending, LanguageModel
from medvlp.types import Tokens
from medvlp.vision.slice_guided_vit import SliceGuidedViT
from medvlp.vision.volume_vit import VolumeViT

SIZE, PATCH, KERNEL = (16, 128, 128), (4, 16, 16), (2, 2, 2)
NUM_SLICES, SLICE_DIM = 16, 64
VOCABULARY, CONTEXT = 8192, 4096
PAD = 0


@dataclass(frozen=True)
class Questions:
    """Volumes with a question each.

    Attributes:
        image: One scan a study.
        slice_features: Of the slices of each scan.
        prompts: Of unequal lengths, padded on the left.
    """

    image: Float[Tensor, "b 1 d h w"]
    slice_features: Float[Tensor, "b m f"]
    prompts: Tokens


def run(options: argparse.Namespace) -> None:
    """Answer the same questions in both ways, in turn."""
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    model = build_model(options.width, options.layers).to(device)
    questions = draw(model, options.questions, device)
    rows = measure(model, questions, options.batch, options.tokens, options.repeats)
    parameters = sum(weight.numel() for weight in model.language.parameters())
    notes = [
        f"language model in Phi-4-mini's layout: {options.layers} layers of width {options.width}, "
        f"{parameters / 1e6:.0f} M parameters, a vocabulary of {VOCABULARY}; two towers of 4 "
        f"layers, {model.num_image_tokens} image tokens; random weights, float32, KV cache",
        f"{options.questions} questions of unequal lengths, answers of {options.tokens} tokens "
        "each; towers, packers and the first pass over the prompt are part of the time",
        f"both ways wrote the same tokens; medians of {options.repeats} rounds in turn, after one "
        "that does not count",
    ]
    publish("generation", rows, notes, options.json)


def build_model(width: int, num_layers: int) -> HSENetVLM:
    """Build a small model with random weights: published layout, three query heads for a key."""
    torch.manual_seed(0)
    config: dict[str, Any] = {
        "model_type": "phi3",
        "vocab_size": VOCABULARY,
        "hidden_size": width,
        "intermediate_size": width * 8 // 3,
        "num_hidden_layers": num_layers,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "partial_rotary_factor": 0.75,
        "max_position_embeddings": CONTEXT,
        "original_max_position_embeddings": CONTEXT,
        "tie_word_embeddings": True,
    }
    shape: dict[str, Any] = {"width": 192, "depth": 4, "num_heads": 4, "mlp_dim": 768}
    depth, height, breadth = (side // patch for side, patch in zip(SIZE, PATCH, strict=True))
    packers = [
        SpatialPacker(192, width, kernel=KERNEL, grid=(depth, height, breadth)) for _ in range(2)
    ]
    return HSENetVLM(
        VolumeViT(SIZE, PATCH, **shape),
        SliceGuidedViT(SIZE, PATCH, **shape, slice_dim=SLICE_DIM),
        packer=packers[0],
        guided_packer=packers[1],
        language=LanguageModel(config),
    ).eval()


def draw(model: HSENetVLM, count: int, device: torch.device) -> Questions:
    """Draw volumes, slice features and questions of 8 to 32 words."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(8, 33, (count,), generator=generator) + 1 + model.num_image_tokens
    longest = int(lengths.max())
    ids = torch.randint(1, VOCABULARY, (count, longest), generator=generator)
    mask = torch.arange(longest) >= longest - lengths[:, None]
    return Questions(
        torch.rand(count, 1, *SIZE, generator=generator).to(device),
        torch.randn(count, NUM_SLICES, SLICE_DIM, generator=generator).to(device),
        Tokens(ids.where(mask, PAD).to(device), mask.to(device)),
    )


def measure(
    model: HSENetVLM, questions: Questions, batch: int, max_new_tokens: int, repeats: int
) -> list[Row]:
    """Time both ways.

    Raises:
        RuntimeError: If they do not write the same.
    """
    sizes = {"one by one": 1, f"{batch} at once": batch}
    works = {
        name: partial(answer, model, questions, size, max_new_tokens)
        for name, size in sizes.items()
    }
    alone, together = (work() for work in works.values())
    if not torch.equal(alone, together):
        different = int((alone != together).any(1).sum())
        raise RuntimeError(
            f"one by one and {batch} at once do not write the same: {different} of {len(alone)} "
            "answers differ; look at the padding of prompts"
        )
    times = interleaved(works, repeats, questions.image.device)
    first = times["one by one"]
    return [
        {
            "questions": name,
            "tokens/s": alone.numel() / time.wall,
            "tokens/CPU s": alone.numel() / time.cpu,
            "ratio by the clock": first.wall / time.wall,
            "ratio in CPU s": first.cpu / time.cpu,
        }
        for name, time in times.items()
    ]


def answer(
    model: HSENetVLM, questions: Questions, batch: int, max_new_tokens: int
) -> Int[Tensor, "b g"]:
    """Answer all questions, so many at once; no prompt is wider than its batch needs."""
    endless = Ending(max_new_tokens, stop_ids=(VOCABULARY,), pad_id=PAD)  # no word has this id
    answers: list[Tensor] = []
    for start in range(0, len(questions.image), batch):
        rows = slice(start, start + batch)
        ids, mask = (part[rows] for part in questions.prompts)
        first = int(mask.any(0).int().argmax())
        image, features = questions.image[rows], questions.slice_features[rows]
        ones = torch.ones(len(image), dtype=torch.long, device=image.device)
        prompts = Tokens(ids[:, first:], mask[:, first:])
        answers.append(model.generate(image, ones, features, prompts, endless))
    return torch.cat(answers)
