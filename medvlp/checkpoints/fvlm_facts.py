"""What the names and shapes of an fVLM file say about its model."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

Shapes = Mapping[str, Sequence[int]]

_VISION = "visual_encoder."
_TEXT = "text_encoder."


def fvlm_facts(shapes: Shapes) -> dict[str, Any] | None:
    """Read the configuration of an fVLM model from published names and shapes.

    The names of the organs, the heads and the tapped blocks leave no trace in them.

    Returns:
        Facts by name; None if these are not the weights of fVLM.
    """
    alone = "patch_embedding.position_embeddings" in shapes
    if alone:
        shapes = {_VISION + name: shape for name, shape in shapes.items()}
    table = shapes.get(_VISION + "patch_embedding.position_embeddings")
    patch = shapes.get(_VISION + "patch_embedding.patch_embeddings.weight")
    queries, words = (
        shapes.get(name) for name in ("query_tokens", _TEXT + "embeddings.word_embeddings.weight")
    )
    if table is None or patch is None or len(patch) != 5 or not (alone or queries):
        return None
    hidden = shapes.get(_VISION + "blocks.0.mlp.linear1.weight")
    projection = shapes.get("vision_projs.0.weight")
    return {
        "patch size": list(patch[2:]),
        "positions": table[1],
        "width": table[2],
        "blocks": _count(shapes, re.escape(_VISION) + r"blocks\.(\d+)\."),
        "MLP width": hidden[0] if hidden else None,
        "organs": queries[0] if queries else None,
        "embedding": projection[0] if projection else None,
        "text vocabulary": words[0] if words else None,
        "text width": words[1] if words else None,
        "text layers": _count(shapes, re.escape(_TEXT) + r"encoder\.layer\.(\d+)\.") or None,
        "text positions": shapes.get(_TEXT + "embeddings.position_embeddings.weight", [None])[0],
    }


def _count(shapes: Shapes, pattern: str) -> int:
    return len({match[1] for name in shapes if (match := re.match(pattern, name))})
