"""What the names and shapes of an HCL-AL file say about its model."""

from collections.abc import Mapping, Sequence
from typing import Any

Shapes = Mapping[str, Sequence[int]]
HEAD_CHANNELS = 64
"""Of a head of attention, in all published transformers."""

_IMAGE = "image_encoder."
_TEXT = "text_encoder."
_CELL = 16**3


def hcl_al_facts(shapes: Shapes) -> dict[str, Any] | None:
    """Read the configuration of a model from published names and shapes.

    The heads leave no trace in them, and the sides of a patch none but their product.

    Returns:
        Facts by name; None if these are not the weights of HCL-AL.
    """
    image = {n.removeprefix(_IMAGE): s for n, s in shapes.items() if n.startswith(_IMAGE)}
    found = _image_facts(image)
    if found is None:
        return None
    projection = image.get("fc.weight", (None, None))
    text = {n.removeprefix(_TEXT): s for n, s in shapes.items() if n.startswith(_TEXT)}
    return found | {"embedding": projection[0]} | _text_facts(text, "text_fc.weight" in shapes)


def _image_facts(image: Shapes) -> dict[str, Any] | None:
    if "position_embedding" in image and "patch_embedding.projection.weight" in image:
        patch, table = image["patch_embedding.projection.weight"], image["position_embedding"]
        kind, first = "ViT", patch
        voxels = (table[1] - 1) * patch[2] * patch[3] * patch[4]
    elif "input_block.convolution.weight" in image:
        kind, first, voxels = "DenseNet", image["input_block.convolution.weight"], None
    elif "in_block.conv.weight" in image:
        kind = "ResidualNet" if "down_32.down_conv.weight" in image else "BasicNet"
        first = image["in_block.conv.weight"]
        cells = image.get("fc.weight", (0, 0))[1] // (16 * first[0])
        voxels = cells * _CELL
    else:
        return None
    return {
        "image encoder": kind,
        "channels": first[1],
        "width": first[0],
        "voxels of a patch": voxels,
    }


def _text_facts(text: Shapes, text_fc: bool) -> dict[str, Any]:
    is_bert = "embeddings.word_embeddings.weight" in text
    name = "embeddings.word_embeddings.weight" if is_bert else "token_embedding.weight"
    layer = "encoder.layer." if is_bert else "transformer.resblocks."
    words = text.get(name, (None, None))
    layers = {n.removeprefix(layer).split(".")[0] for n in text if n.startswith(layer)}
    return {
        "text encoder": None if not text else "BERT" if is_bert else "CLIP",
        "text vocabulary": words[0],
        "text width": words[1],
        "text layers": len(layers) or None,
        "text fc": text_fc,
    }
