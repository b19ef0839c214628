"""What the names and shapes of a HLIP file say about its model."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

Shapes = Mapping[str, Sequence[int]]

_TRUNK = "visual.trunk."
_TEXT = "text.transformer."
_PEFT = "base_model.model."
_PATCH = _TRUNK + "patch_embed.proj.weight"
_GRID = _TRUNK + "spatial_posemb"


def hlip_facts(shapes: Shapes) -> dict[str, Any] | None:
    """Read the configuration of a HLIP model from published names and shapes.

    The levels of attention leave no trace in them, and the number of heads follows from the width
    by the published rule of 64 channels a head.

    Returns:
        Facts by name; None if these are not the weights of HLIP.
    """
    if "spatial_posemb" in shapes:  # the image tower alone
        shapes = {_TRUNK + name: shape for name, shape in shapes.items()}
    grid = shapes.get(_GRID)
    if grid is None or len(grid) != 5 or _TRUNK + "cls_token" not in shapes:
        return None
    patch, width = shapes.get(_PATCH), grid[4]
    registers = shapes.get(_TRUNK + "reg_token", (1, 0))[1]
    head = shapes.get("visual.head.proj.weight")
    hidden = shapes.get(_TRUNK + "blocks.0.mlp.fc1.weight")
    return {
        "patch size": list(patch[2:]) if patch else None,  # a convolutional stem has several
        "grid": list(grid[1:4]),
        "width": width,
        "blocks": _count(shapes, re.escape(_TRUNK) + r"blocks\.(\d+)\."),
        "heads (guessed)": max(width // 64, 1),
        "MLP width": hidden[0] if hidden else None,
        "prefix tokens": 1 + registers,
        "rows of the scan table": _scan_rows(shapes),
        "image head": list(head) if head else None,
        "loss": _loss(shapes, dual=bool(registers)),
        **_text_facts(shapes),
    }


def _scan_rows(shapes: Shapes) -> int:
    """Count the rows; a table of one row is superfluous, the same as none."""
    for name in ("sequential_posemb", "series_posemb"):
        rows = shapes.get(_TRUNK + name, (1, 0))[1]
        if rows > 1:
            return rows
    return 0


def _loss(shapes: Shapes, *, dual: bool) -> str:
    if "logit_bias" not in shapes:
        return "softmax"
    return "two softmax (logit_bias is the second scale)" if dual else "sigmoid"


def _text_facts(shapes: Shapes) -> dict[str, Any]:
    lora = any(name.startswith(_TEXT + _PEFT) for name in shapes)
    prefix = _TEXT + (_PEFT if lora else "")
    words = shapes.get(prefix + "embeddings.word_embeddings.weight")
    positions = shapes.get(prefix + "embeddings.position_embeddings.weight")
    projection = shapes.get("text.proj.weight")
    return {
        "text vocabulary": words[0] if words else None,
        "text width": words[1] if words else None,
        "text layers": _count(shapes, re.escape(prefix) + r"encoder\.layer\.(\d+)\."),
        "text positions": positions[0] if positions else None,
        "text head": list(projection) if projection else None,
        "text LoRA": _lora(shapes),
    }


def _lora(shapes: Shapes) -> str:
    found = {
        match[1]: shape[0]
        for name, shape in shapes.items()
        if (match := re.search(r"\.(\w+)\.lora_A\.\w+\.weight$", name))
    }
    if not found:
        return "none"
    return f"rank {'/'.join(map(str, sorted(set(found.values()))))} on {', '.join(sorted(found))}"


def _count(shapes: Shapes, pattern: str) -> int:
    return len({match[1] for name in shapes if (match := re.match(pattern, name))})
