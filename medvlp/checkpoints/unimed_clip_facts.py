"""What the names and shapes of a CLIP file say about its model."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

Shapes = Mapping[str, Sequence[int]]


def unimed_clip_facts(shapes: Shapes) -> dict[str, Any] | None:
    """Read the configuration of a UniMed-CLIP model from its names and shapes, or open_clip's.

    The activation leaves no trace in them, and the number of heads follows from the width by the
    published rule of 64 channels a head.

    Returns:
        Facts by name; None if these are not the weights of UniMed-CLIP.
    """
    alone = "class_embedding" in shapes
    if alone:
        shapes = {f"visual.{name}": shape for name, shape in shapes.items()}
    image = clip_image_facts(shapes)
    text = {re.sub(r"^text(_encoder)?\.", "", n): s for n, s in shapes.items() if n[:4] == "text"}
    if image is None or not (alone or "proj.2.weight" in text):
        return None
    words = text.get("transformer.embeddings.word_embeddings.weight", (None, None))
    heads = [text.get(f"proj.{layer}.weight", (None, None)) for layer in (0, 2)]
    return image | {
        "loss": "sigmoid" if "logit_bias" in shapes else "softmax",
        "text vocabulary": words[0],
        "text width": words[1],
        "text layers": _count(text, r"transformer\.encoder\.layer\.(\d+)\.") or None,
        "text positions": text.get("transformer.embeddings.position_embeddings.weight", [None])[0],
        "text head": None if alone else [heads[0][1], heads[0][0], heads[1][0]],
    }


def clip_image_facts(shapes: Shapes) -> dict[str, Any] | None:
    """Read the configuration of CLIP's image tower; None if there is no such tower."""
    patch, table = shapes.get("visual.conv1.weight"), shapes.get("visual.positional_embedding")
    if patch is None or table is None or (len(patch), len(table)) != (4, 2):
        return None
    side, width = math.isqrt(max(table[0] - 1, 0)), table[1]
    hidden = shapes.get("visual.transformer.resblocks.0.mlp.c_fc.weight")
    projection = shapes.get("visual.proj")
    return {
        "patch size": patch[-1],
        "image size": side * patch[-1],
        "width": width,
        "blocks": _count(shapes, r"visual\.transformer\.resblocks\.(\d+)\."),
        "heads (guessed)": max(width // 64, 1),
        "MLP width": hidden[0] if hidden else None,
        "image head": list(projection) if projection else None,
    }


def _count(shapes: Shapes, pattern: str) -> int:
    return len({match[1] for name in shapes if (match := re.match(pattern, name))})
