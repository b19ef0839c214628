"""Models by the name of their config, and which of them a file fits.

Configs are `conf/model/NAME.yaml`, and `conf/tower/NAME.yaml` for towers that were published alone.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from torch import nn

from medvlp import config
from medvlp.checkpoints.published_systems import is_published
from medvlp.checkpoints.systems import facts_of
from medvlp.override_advice import nearest

# Facts that options of one model config change.
_OPTIONS = ("loss", "text LoRA", "teacher")
_TOWERS = "tower"  # the group of towers alone


def model_names() -> list[str]:
    """List the models of `conf/model` and the towers of `conf/tower`."""
    return sorted([*_names("model"), *_names(_TOWERS)])


def model_tree(name: str, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Compose the config of a model.

    Args:
        name: Of a file of `conf/model` or `conf/tower`.
        overrides: As on the command line of `medvlp.train`, such as `+lora=published`.

    Raises:
        ConfigError: If there is no such model, or an override does not compose.
    """
    name = Path(name).name.removesuffix(".yaml")
    if name not in model_names():
        raise config.ConfigError(f"there is no model {name!r}{nearest(name, model_names())}")
    choice = [f"+{_TOWERS}={name}", "~model"] if name in _names(_TOWERS) else [f"model={name}"]
    tree = config.plain(config.compose([*choice, *overrides], "checkpoints"), interpolate=True)
    config.check_keys(tree["model"])
    return tree["model"]


def build_model(tree: Mapping[str, Any], *, only_shapes: bool = False) -> nn.Module:
    """Build a model; its weights come from a file, so that none are fetched for the text tower.

    Args:
        tree: Of the model.
        only_shapes: Take no memory for weights.
    """
    with torch.device("meta" if only_shapes else "cpu"):
        return instantiate(without_pretrained(tree), _convert_="all")


def without_pretrained(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out the pretrained part of a model whose weights all come from a file.

    Nothing is fetched for its text tower or language model then; the architecture is written out
    beside it. Weights in bytes are left as they are: those are made of the pretrained ones.
    """
    without = dict(tree)
    for name in ("text", "language"):
        part = tree.get(name)
        if isinstance(part, Mapping) and part.get("config") and not part.get("quantization"):
            without[name] = {**part, "pretrained": None}
    return without


def fitting_models(facts: Mapping[str, Any]) -> list[str]:
    """Name the model configs, with the options that they need, whose shapes a file has.

    Several may: the levels of attention leave no trace in the weights.
    """
    known = {name: value for name, value in facts.items() if value is not None}
    fitting = []
    for name in model_names():
        own = _facts_of_config(name)
        if own and all(own.get(fact) == v for fact, v in known.items() if fact not in _OPTIONS):
            fitting.append(" ".join([name, *_options(known, own)]))
    return fitting


@cache
def _facts_of_config(name: str) -> dict[str, Any]:
    model = build_model(model_tree(name), only_shapes=True)
    return facts_of(model) if is_published(model) else {}


def _options(facts: Mapping[str, Any], own: Mapping[str, Any]) -> list[str]:
    """Say what must be added to a model config; only for files that say something of it."""
    options = []
    if "loss" in facts and facts["loss"] != own["loss"]:
        options.append("model.logit_bias_init=0.0" if facts["loss"] == "sigmoid" else "")
    if facts.get("text LoRA", "none") != "none":
        rank = facts["text LoRA"].split()[1]
        options += ["+lora=published"] + ([f"model.text.lora.rank={rank}"] if rank != "8" else [])
    if facts.get("teacher") and not own["teacher"]:
        options.append("+loss=clip_relation")
    return [option for option in options if option]


def _names(group: str) -> list[str]:
    return [file.stem for file in (config.config_dir() / group).glob("*.yaml")]
