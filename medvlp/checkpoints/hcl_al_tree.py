"""The configuration of model and tokenizer that a published file of HCL-AL needs."""

from collections.abc import Mapping, Sequence
from typing import Any

from medvlp.checkpoints.hcl_al_facts import HEAD_CHANNELS, Shapes, hcl_al_facts

_CONTEXT = 77  # tokens that texts are padded to
_VISION = {
    "ResidualNet": "volume_cnn.ResidualNet",
    "BasicNet": "volume_cnn.BasicNet",
    "DenseNet": "volume_cnn.DenseNet",
    "ViT": "lesion_vit.LesionViT",
}
TOKENIZERS = {
    "PubMedBERT": "BiomedNLP-PubMedBERT-base-uncased-abstract-fulltext",
    "BioMedBERT": "BiomedCLIP-PubMedBERT_256-vit_base_patch16_224",
}
"""Folder of the tokenizer by the text tower's part of a network's name."""


def hcl_al_tree(
    shapes: Shapes, image_size: Sequence[int], heads: Mapping[str, int] | None = None
) -> dict[str, Any]:
    """Read model and tokenizer off published names and shapes.

    What leaves no trace is as published: heads of 64 channels, unless they are told. The folder of
    BERT's tokenizer is left open.

    Args:
        shapes: Of all weights.
        image_size: Voxels of a patch along x, y, z, as the file states them.
        heads: Of attention, of the towers "vision" and "text".

    Raises:
        ValueError: If these are other weights, or of patches of another size.
    """
    facts = hcl_al_facts(shapes)
    if facts is None or None in (facts["embedding"], facts["text encoder"]):
        raise ValueError(
            "these are neither the weights of HCL-AL as published nor a checkpoint of medvlp.train"
        )
    _require_size(facts["voxels of a patch"], image_size)
    text_tower = _bert if facts["text encoder"] == "BERT" else _clip
    try:
        vision = _vision(_part(shapes, "image_encoder."), facts, image_size)
        text, tokenizer = text_tower(_part(shapes, "text_encoder."), facts)
    except KeyError as error:
        raise ValueError(f"it lacks the weight {error}; download the file again") from error
    _tell_heads({"vision": vision, "text": text.get("config", text)}, heads or {})
    model = {
        "_target_": "medvlp.models.hcl_al.HCLAL",
        "vision": vision,
        "text": text,
        "image_projection": _linear(*shapes["image_encoder.fc.weight"]),
        "text_fc": _linear(*shapes["text_fc.weight"]) if facts["text fc"] else None,
        "compat": "published",
    }
    return {"model": model, "tokenizer": tokenizer}


def _require_size(voxels: int | None, image_size: Sequence[int]) -> None:
    x, y, z = image_size
    if voxels not in (None, x * y * z):
        raise ValueError(
            f"crop_size is {list(image_size)} voxels, {x * y * z:,}, and the weights are of "
            f"patches of {voxels:,}; download the file again"
        )


def _tell_heads(towers: Mapping[str, dict[str, Any]], heads: Mapping[str, int]) -> None:
    for name, tower in towers.items():
        key = "num_attention_heads" if "hidden_size" in tower else "num_heads"
        if key in tower:
            tower[key] = heads.get(name, tower[key])


def _part(shapes: Shapes, prefix: str) -> Shapes:
    return {n.removeprefix(prefix): shape for n, shape in shapes.items() if n.startswith(prefix)}


def _linear(wide: int, narrow: int) -> dict[str, Any]:
    return {"_target_": "torch.nn.Linear", "in_features": narrow, "out_features": wide}


def _vision(shapes: Shapes, facts: Mapping[str, Any], image_size: Sequence[int]) -> dict[str, Any]:
    kind, width = facts["image encoder"], facts["width"]
    tree: dict[str, Any] = {
        "_target_": f"medvlp.vision.{_VISION[kind]}",
        "image_size": list(image_size),
        "in_channels": facts["channels"],
    }
    if kind == "DenseNet":
        layers = [n.split(".") for n in shapes if n.endswith(".convolution2.weight")]
        blocks = sorted({int(name[1]) for name in layers})
        return tree | {
            "stem_channels": width,
            "growth_rate": shapes["ops.0.dense_base_blocks.0.convolution2.weight"][0],
            "blocks": [sum(int(name[1]) == block for name in layers) for block in blocks],
        }
    if kind == "ViT":
        return tree | {
            "patch_size": list(shapes["patch_embedding.projection.weight"][2:]),
            "width": width,
            "depth": len({n.split(".")[1] for n in shapes if n.startswith("encoder.")}),
            "num_heads": max(1, width // HEAD_CHANNELS),
            "mlp_dim": shapes["encoder.0.feed_forward.0.weight"][0],
        }
    return tree | {"base_channels": width}


def _clip(shapes: Shapes, facts: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    context = shapes["positional_embedding"][0]
    text = {
        "_target_": "medvlp.text.clip_transformer.ClipTextTransformer",
        "vocab_size": facts["text vocabulary"],
        "context_length": context,
        "width": facts["text width"],
        "depth": facts["text layers"],
        "num_heads": max(1, facts["text width"] // HEAD_CHANNELS),
        "embed_dim": shapes["text_projection"][1],
    }
    tokenizer = {
        "_target_": "medvlp.text.clip_tokenizer.ClipTokenizer",
        "merges": None,
        "context_length": context,
        "padding": "longest",
        "truncate": False,
    }
    return text, tokenizer


def _bert(shapes: Shapes, facts: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read a BERT: features are a maximum over all positions of texts that are padded in full."""
    width, positions = facts["text width"], shapes["embeddings.position_embeddings.weight"][0]
    config = {
        "model_type": "bert",
        "vocab_size": facts["text vocabulary"],
        "hidden_size": width,
        "num_hidden_layers": facts["text layers"],
        "num_attention_heads": max(1, width // HEAD_CHANNELS),
        "intermediate_size": shapes["encoder.layer.0.intermediate.dense.weight"][0],
        "max_position_embeddings": positions,
        "type_vocab_size": shapes["embeddings.token_type_embeddings.weight"][0],
    }
    text = {
        "_target_": "medvlp.text.hf_encoder.HFEncoder",
        "config": config,
        "pooling": "max",
        "mask_padding": False,
    }
    tokenizer = {
        "_target_": "medvlp.text.tokenizers.HFTokenizer",
        "name_or_path": None,
        "context_length": min(_CONTEXT, positions),
        "padding": "max_length",
    }
    return text, tokenizer
