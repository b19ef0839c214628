"""Rule table of HLIP: files of 2025-06 (v1) and of the newer models.

Reference: the released checkpoints, `visual.trunk` = image tower, `text.transformer` = text tower.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from medvlp.checkpoints.adapter import (
    LoadReport,
    Rule,
    RuleTable,
    load_published,
    nested,
    scalar_to_vector,
    to_published,
    vector_to_scalar,
)
from medvlp.checkpoints.files import read_weights, unwrap

_TRUNK_RULES = (
    Rule("spatial_posemb", "pos_embed"),
    Rule("sequential_posemb", "scan_pos_embed"),
    Rule("{rest}", "{rest}"),
)
_OLD_NAMES = {r"(^|\.)series_posemb$": r"\1sequential_posemb"}
_HARMLESS = {
    # Single-scan files of the first code version hold a table of one row that nothing reads; a
    # longer one belongs to a model for several scans.
    r"(.+\.)?sequential_posemb": lambda table: table.shape[1] == 1,
    # A buffer that old versions of transformers wrote.
    r"(.+\.)?embeddings\.position_ids": lambda buffer: True,
}

TRUNK = RuleTable(_TRUNK_RULES, aliases=_OLD_NAMES, ignored=_HARMLESS)
"""The image tower alone, names without `visual.trunk.`."""


def _two_tower(bias: str, text: str = "text.transformer.{rest}") -> RuleTable:
    rules = (
        Rule("logit_scale", "logit_scale", scalar_to_vector, vector_to_scalar),
        Rule("logit_bias", bias, scalar_to_vector, vector_to_scalar),
        *nested(_TRUNK_RULES, "visual.trunk.", "vision."),
        Rule("visual.head.proj.weight", "image_projection.weight"),
        Rule(text, "text.encoder.{rest}"),
        Rule("text.proj.weight", "text_projection.weight"),
    )
    return RuleTable(rules, aliases=_OLD_NAMES, ignored=_HARMLESS)


TWO_TOWER = _two_tower("logit_bias")
"""The whole model; `logit_bias` is that of a sigmoid loss."""

DUAL_TOWER = _two_tower("second_logit_scale")
"""The whole model with two image tokens; `logit_bias` is the log scale of the second."""

# PEFT wraps the encoder of a published file; ours carries its low-rank layers without a wrapper.
_WITH_LORA = "text.transformer.base_model.model.{rest}"
TWO_TOWER_LORA = _two_tower("logit_bias", _WITH_LORA)
DUAL_TOWER_LORA = _two_tower("second_logit_scale", _WITH_LORA)


def two_tower_table(model: nn.Module) -> RuleTable:
    """Choose the rule table of a `TwoTower`: one name means two things, another is wrapped."""
    dual = getattr(model, "second_logit_scale", None) is not None
    if any(".lora_A." in name for name, _ in model.named_parameters()):
        return DUAL_TOWER_LORA if dual else TWO_TOWER_LORA
    return DUAL_TOWER if dual else TWO_TOWER


def load_hlip(
    model: nn.Module, weights: str | Path | Mapping[str, Any], *, strict: bool = True
) -> LoadReport:
    """Load published weights into a `TwoTower`.

    Args:
        model: Two-tower model of the same configuration.
        weights: Path of a published file, or its content.
        strict: See `adapter.load_published`.

    Raises:
        CheckpointMismatchError: If strict, and the weights do not fit.
    """
    return load_published(model, _tensors(weights), two_tower_table(model), strict=strict)


def load_hlip_trunk(
    vision: nn.Module, weights: str | Path | Mapping[str, Any], *, strict: bool = True
) -> LoadReport:
    """Load published weights of the image tower alone."""
    return load_published(vision, _tensors(weights), TRUNK, strict=strict)


def export_hlip(model: nn.Module) -> dict[str, Tensor]:
    """Give the weights of a `TwoTower` their published names and shapes."""
    return to_published(model.state_dict(), two_tower_table(model))


def _tensors(weights: str | Path | Mapping[str, Any]) -> dict[str, Tensor]:
    return read_weights(weights) if isinstance(weights, (str, Path)) else unwrap(weights)
