"""Rule table of HSENet's language model that sees: towers, packers, language model, adapter.

Reference: the names of github.com/YanzhaoShi/HSENet, whose released file holds both packers and the
low-rank layers under the prefix that PEFT gives them.
"""

from torch import Tensor

from medvlp.checkpoints.adapter import (
    LoadReport,
    Rule,
    RuleTable,
    StateDict,
    load_published,
    nested,
    to_published,
)
from medvlp.checkpoints.hsenet_rules import PACKER_RULES, VISION_RULES
from medvlp.models.hsenet_vlm import HSENetVLM

PEFT_PREFIX = "base_model.model."
"""Before every name of an adapter."""

_TOWERS = "model.vision_tower.vision_tower_stage"

_HEAD, _WORDS = "lm_head.weight", "model.embed_tokens.weight"


def vlm_table(model: HSENetVLM) -> RuleTable:
    """Write the rules of a model: names of the language model depend on its low-rank layers."""
    own = "language.decoder."
    base = ".base_layer."
    adapted = [name.removeprefix(own) for name in model.state_dict() if base in name]
    return RuleTable(
        (
            *nested(VISION_RULES, f"{_TOWERS}1.", "vision."),
            *nested(VISION_RULES, f"{_TOWERS}2.", "guided_vision."),
            *nested(PACKER_RULES, "model.mm_projector.", "packer."),
            *nested(PACKER_RULES, "model.mm_projector2.", "guided_packer."),
            *(Rule(name.replace(base, "."), own + name) for name in adapted),
            Rule("{rest}", own + "{rest}"),
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
    kept = {
        name: tensor
        for name, tensor in model.state_dict().items()
        if name.startswith(("packer.", "guided_packer.")) or ".lora_" in name
    }
    exported = to_published(kept, vlm_table(model))
    return {PEFT_PREFIX + name: tensor for name, tensor in exported.items()}
