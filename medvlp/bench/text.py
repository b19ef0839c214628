"""Text tower on captions: cut to the longest of the call, against padded to the whole context."""

import argparse
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from hydra.utils import instantiate
from jaxtyping import Float
from omegaconf import OmegaConf
from torch import Tensor

from medvlp.bench.record import publish
from medvlp.bench.timing import interleaved
from medvlp.bench.trunk import model_path
from medvlp.data.caption_choice import MultiCaption
from medvlp.phantom.image_painter import FINDINGS
from medvlp.phantom.unimed_components import COMPONENTS
from medvlp.text.hf_encoder import HFEncoder
from medvlp.text.tokenizers import Padding, WordPieceTokenizer
from medvlp.types import Tokens


def run(options: argparse.Namespace) -> None:
    """Encode the same captions in three ways, in turn."""
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    model: Any = OmegaConf.to_container(OmegaConf.load(model_path(options.model)))
    context = model["tokenizer"]["context_length"]
    tower = build_tower(model["model"]["text"], options.layers).to(device)
    groups = tower.length_groups
    texts = captions(options.texts)
    padded, cut = (_tokens(texts, context, way, device) for way in ("max_length", "longest"))
    ways = {
        f"padded to {context}": (padded, 1),
        "cut to the longest": (cut, 1),
        f"cut, {groups} groups by length": (cut, groups),
    }
    features = {name: encode(tower, *way) for name, way in ways.items()}
    works = {name: partial(encode, tower, *way) for name, way in ways.items()}
    times = interleaved(works, options.repeats, device)
    first, lengths = next(iter(ways)), cut.attention_mask.sum(1).float()
    rows = [
        {
            "captions": name,
            "texts/s": len(texts) / time.wall,
            "texts/CPU s": len(texts) / time.cpu,
            "ratio in CPU s": times[first].cpu / time.cpu,
            "ratio by the clock": times[first].wall / time.wall,
            "largest difference": float((features[name] - features[first]).abs().max()),
        }
        for name, time in times.items()
    ]
    notes = [
        f"text tower of {options.model}"
        + (f", {options.layers} layers" if options.layers else "")
        + f", random weights, evaluation, float32; {len(texts)} captions as the twin of UniMed "
        "draws them (shares of its 13 sets, markers, one of several)",
        f"{lengths.mean():.0f} tokens on average, {lengths.max():.0f} at most; the vocabulary "
        "is the twin's, not BiomedBERT's",
        f"medians of {options.repeats} rounds in turn, after one that does not count",
    ]
    publish("text tower", rows, notes, options.json)


def captions(count: int) -> list[str]:
    """Draw captions as a training step on the twin of UniMed does."""
    generator = np.random.default_rng(0)
    shares = np.array([component.shards for component in COMPONENTS])
    texts: list[str] = []
    for number in generator.choice(len(COMPONENTS), count, p=shares / shares.sum()):
        component = COMPONENTS[number]
        modality = component.modalities[len(texts) % len(component.modalities)]
        finding = FINDINGS[modality][len(texts) % len(FINDINGS[modality])]
        field = component.text(modality, finding, generator)
        texts += [unit.text for unit in MultiCaption()({"caption": field}, generator)]
    return texts


def build_tower(fields: Mapping[str, Any], num_layers: int = 0) -> HFEncoder:
    """Build the text tower of a model from its configuration, with random weights."""
    torch.manual_seed(0)
    config = dict(fields["config"])
    if num_layers:
        config["num_hidden_layers"] = num_layers
    return instantiate({**fields, "config": config}, _convert_="all").eval()


@torch.no_grad()
def encode(tower: HFEncoder, tokens: Tokens, length_groups: int) -> Float[Tensor, "t c"]:
    """Return the features of the texts."""
    tower.length_groups = length_groups
    return tower(tokens)


def _tokens(texts: list[str], context: int, padding: Padding, device: torch.device) -> Tokens:
    tokens = WordPieceTokenizer("phantom", context, padding=padding)(texts)
    return Tokens(*(part.to(device) for part in tokens))
