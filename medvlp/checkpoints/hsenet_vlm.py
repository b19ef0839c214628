"""Rule tables of HSENet's language model that sees: the whole model, and its adapter alone.

| repository on huggingface.co | is | tensors |
|---|---|---|
| Yanzhaoshi/HSENet-Phi-4-4B, `trained_vlm_for_ct_rate` | the adapter that writes reports | 284 |
| the same, `trained_vlm_for_rad_geome` | the adapter that answers questions | 284 |

An adapter has both packers and the low-rank layers, under the prefix that PEFT gives them; towers
and language model come from their own files.

Reference: the names of github.com/YanzhaoShi/HSENet.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from medvlp.checkpoints.adapter import (
    LoadReport,
    Rule,
    RuleTable,
    StateDict,
    load_published,
    nested,
    to_published,
)
from medvlp.checkpoints.hsenet_rules import PACKER_RULES, TOWER_PREFIXES, TOWERS
from medvlp.layers.patch_embed import PerceptronPatchEmbed
from medvlp.models.hsenet_vlm import HSENetVLM

VLM_EXPECTED = (
    "mean precision of 4-grams 24.01 % on CT-RATE's validation volumes, or accuracy of the major "
    "place 73.60 % on RadGenome-ChestCT (abstract)"
)
"""Published of the adapter for reports, and of that for answers."""

PEFT_PREFIX = "base_model.model."
"""Before every name of an adapter."""

OWN_NAME = re.compile(r"(guided_)?(packer|vision)\.|language\.decoder\..+\.lora_[AB]\.")
"""What the names of an adapter, or of the towers beside it, begin with under ours."""

_OWN = "language.decoder."
_BASE = ".base_layer."
_HEAD, _WORDS = "lm_head.weight", "model.embed_tokens.weight"
_PACKERS, _TOWERS = ("packer", "guided_packer"), ("vision", "guided_vision")
_LOW_RANK = ("lora_A", "lora_B")
_TOWER_NAME = re.compile(r"(guided_)?vision\.|(base_model\.model\.)?(model\.)?vision_tower\.")


def _packers(prefix: str) -> list[Rule]:
    return [
        *nested(PACKER_RULES, f"{prefix}model.mm_projector.", "packer."),
        *nested(PACKER_RULES, f"{prefix}model.mm_projector2.", "guided_packer."),
    ]


VLM = RuleTable(
    (
        *TOWERS.rules,
        *_packers(""),
        Rule("{layer}.{rest}", _OWN + "{layer}" + _BASE + "{rest}"),
        Rule("{rest}", _OWN + "{rest}"),
    )
)
"""From any whole model of ours to published names; the way back depends on its low-rank layers."""

ADAPTER = RuleTable(
    (
        *TOWERS.rules,
        *_packers(PEFT_PREFIX),
        Rule(PEFT_PREFIX + "{rest}", _OWN + "{rest}"),
    ),
    # PEFT leaves the name of an adapter out of its files
    aliases={**TOWERS.aliases, r"(.+\.lora_[AB])\.weight": r"\1.default.weight"},
)
"""An adapter alone, or with both towers beside it."""


class AdapterPart(nn.Module):
    """What an adapter holds of a model, sharing its weights: packers and low-rank layers.

    Args:
        model: The whole.
        towers: Both image towers, too.
    """

    def __init__(self, model: HSENetVLM, *, towers: bool = False) -> None:
        super().__init__()
        whole = (*_PACKERS, *(_TOWERS if towers else ()))
        for name, module in model.named_modules():
            if name in whole or name.rpartition(".")[2] in _LOW_RANK:
                _graft(self, name.split("."), module)


def is_hsenet_vlm(model: nn.Module) -> bool:
    """Tell whether a model has the parts that the rule table names."""
    return isinstance(model, HSENetVLM) and all(
        isinstance(tower.patch_embed, PerceptronPatchEmbed)
        for tower in (model.vision, model.guided_vision)
    )


def vlm_table(model: nn.Module) -> RuleTable:
    """Write the rules of a model: names of the language model depend on its low-rank layers."""
    adapted = [name.removeprefix(_OWN) for name in model.state_dict() if _BASE in name]
    return RuleTable(
        (
            *TOWERS.rules,
            *_packers(""),
            *(Rule(name.replace(_BASE, "."), _OWN + name) for name in adapted),
            Rule("{rest}", _OWN + "{rest}"),
        ),
        aliases={r"base_model\.model\.(.+)": r"\1"},
    )


def load_vlm(model: HSENetVLM, published: StateDict) -> LoadReport:
    """Load the whole model from published names; strict.

    The head of the language model may be left out where it is its word table.

    Raises:
        CheckpointMismatchError: If anything is missing, unexpected or misshapen.
    """
    tensors = dict(published)
    config = model.language.decoder.config
    if getattr(config, "tie_word_embeddings", False) and _WORDS in tensors:
        tensors.setdefault(_HEAD, tensors[_WORDS])
    return load_published(model, tensors, vlm_table(model))


def published_adapter(model: HSENetVLM) -> dict[str, Tensor]:
    """Collect what a released file holds: both packers and the low-rank layers, as published."""
    return to_published(AdapterPart(model).state_dict(), ADAPTER)


def adapter_part(model: HSENetVLM, tensors: StateDict) -> AdapterPart:
    """Return what a file of an adapter holds of a model: with the towers if they are in it."""
    return AdapterPart(model, towers=any(_TOWER_NAME.match(name) for name in tensors))


def vlm_facts(shapes: Mapping[str, Sequence[int]]) -> dict[str, Any] | None:
    """Read the configuration of the whole model; None if these are not its weights."""
    towers = any(name.startswith("model.vision_tower.") for name in shapes)
    return _facts(shapes, "") if towers else None


def adapter_facts(shapes: Mapping[str, Sequence[int]]) -> dict[str, Any] | None:
    """Read the configuration that an adapter belongs to; None if these are not its weights."""
    alone = all(
        name.startswith(TOWER_PREFIXES)
        or (name.startswith(PEFT_PREFIX) and (".mm_projector" in name or ".lora_" in name))
        for name in shapes
    )
    return _facts(shapes, PEFT_PREFIX) if alone else None


def _facts(shapes: Mapping[str, Sequence[int]], prefix: str) -> dict[str, Any] | None:
    packer = shapes.get(f"{prefix}model.mm_projector.proj_mpls.0.weight")
    if packer is None:
        return None
    layers = f"{prefix}model.layers."
    numbers = {name.removeprefix(layers).partition(".")[0] for name in shapes if layers in name}
    ranks = {shape[0] for name, shape in shapes.items() if ".lora_A." in name}
    return {
        "packers": 1 + any(".mm_projector2." in name for name in shapes),
        "image width": packer[1],
        "language width": packer[0],
        "language layers": len(numbers),
        "language LoRA": f"rank {min(ranks)}" if ranks else None,
    }


def _graft(root: nn.Module, path: Sequence[str], module: nn.Module) -> None:
    """Hang a module below a path of empty ones."""
    for name in path[:-1]:
        if not hasattr(root, name):
            root.add_module(name, nn.Module())
        root = root.get_submodule(name)
    root.add_module(path[-1], module)
