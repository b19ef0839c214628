"""What the names and shapes of HSENet's files say about their model."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from medvlp.checkpoints.hsenet_rules import (
    TEACHER_PREFIX,
    TOWER_PREFIXES,
    VISION_PREFIX,
    unwrapped,
)

Shapes = Mapping[str, Sequence[int]]

_PATCH = "patch_embedding.patch_embeddings.1.weight"
_TEXT = "language_encoder."
_TRUNK = re.compile(
    r"cls_token|pos_embed|((patch_embed\.proj|norm|blocks\.\d+\."
    r"(norm1|norm2|attn\.qkv|attn\.proj|mlp\.fc1|mlp\.fc2))\.(weight|bias))"
)


def clip_facts(shapes: Shapes) -> dict[str, Any] | None:
    """Read the configuration of a contrastive model of either stage, or of its image tower alone.

    The grid, the sides of a patch and the number of heads leave no trace.

    Returns:
        Facts by name; None if these are not the weights of HSENet.
    """
    alone = _PATCH in shapes
    if alone:
        shapes = {VISION_PREFIX + name: shape for name, shape in shapes.items()}
    tower = _tower_facts(shapes, VISION_PREFIX)
    head = shapes.get("mm_vision_proj.weight")
    if tower is None or (head is None and not alone):
        return None
    words, places = (
        shapes.get(f"{_TEXT}embeddings.{name}_embeddings.weight", (None, None))
        for name in ("word", "position")
    )
    return tower | {
        "towers": 1,
        "image head": list(head) if head else None,
        "text vocabulary": words[0],
        "text width": words[1],
        "text layers": _count(shapes, _TEXT + r"encoder\.layer\.(\d+)\.") or None,
        "text positions": places[0],
        "teacher": any(name.startswith(TEACHER_PREFIX) for name in shapes),
    }


def towers_facts(shapes: Shapes) -> dict[str, Any] | None:
    """Read the configuration of both image towers under the names of the language model."""
    shapes = {unwrapped(name): shape for name, shape in shapes.items()}
    plain, guided = (_tower_facts(shapes, prefix) for prefix in TOWER_PREFIXES)
    if plain is None or guided is None or not all(n.startswith(TOWER_PREFIXES) for n in shapes):
        return None
    return guided | {"towers": 2}


def slice_encoder_facts(shapes: Shapes) -> dict[str, Any] | None:
    """Read the configuration of a 2D ViT in timm's names, alone or in open_clip's BiomedCLIP."""
    inside = {
        name.removeprefix("visual.trunk."): shape
        for name, shape in shapes.items()
        if name.startswith("visual.trunk.")
    }
    trunk = inside or shapes
    patch, table = trunk.get("patch_embed.proj.weight"), trunk.get("pos_embed")
    if patch is None or table is None or (len(patch), len(table)) != (4, 3):
        return None
    if not all(_TRUNK.fullmatch(name) for name in trunk):
        return None
    hidden = trunk.get("blocks.0.mlp.fc1.weight")
    return {
        "slice patch": patch[-1],
        "image size": math.isqrt(max(table[1] - 1, 0)) * patch[-1],
        "width": table[2],
        "blocks": _count(trunk, r"blocks\.(\d+)\."),
        "MLP width": hidden[0] if hidden else None,
    }


def _tower_facts(shapes: Shapes, prefix: str) -> dict[str, Any] | None:
    patch = shapes.get(prefix + _PATCH)
    table = shapes.get(prefix + "patch_embedding.position_embeddings")
    if patch is None or table is None or (len(patch), len(table)) != (2, 3):
        return None
    hidden = shapes.get(prefix + "blocks.0.mlp.linear1.weight")
    slices = shapes.get(prefix + "slice_guided_attention.Wk.weight")
    return {
        "stage": 1 if slices is None else 2,
        "voxels of a patch": patch[1],
        "positions": table[1],
        "width": table[2],
        "blocks": _count(shapes, re.escape(prefix) + r"blocks\.(\d+)\."),
        "MLP width": hidden[0] if hidden else None,
        "slice width": slices[1] if slices else None,
    }


def _count(shapes: Shapes, pattern: str) -> int:
    return len({match[1] for name in shapes if (match := re.match(pattern, name))})
