"""Which parts of a text encoder are trained."""

from typing import Literal

from torch import nn

Freeze = Literal["none", "all_but_layer_norm", "all"]


def freeze_encoder(encoder: nn.Module, freeze: Freeze, unlocked_layers: int) -> list[nn.Module]:
    """Stop the training of an encoder, or of all but its last parts.

    Args:
        encoder: Of embeddings and one stack of layers, if some layers stay unlocked.
        freeze: "all_but_layer_norm" leaves weights and biases of LayerNorms trainable.
        unlocked_layers: How many of [embeddings, layer, layer, ...], counted from the end, are
            trained like those of a free encoder.

    Returns:
        The frozen parts.

    Raises:
        ValueError: If the encoder has fewer parts, or of another kind.

    Reference: `--lock-text`, `--lock-text-freeze-layer-norm`, `--lock-text-unlocked-layers` of
    open_clip, which HLIP uses.
    """
    if freeze == "none":
        if unlocked_layers:
            raise ValueError(
                f"unlocked_layers {unlocked_layers} has no meaning for a free text encoder; set "
                "freeze to all_but_layer_norm or all"
            )
        return []
    parts: list[nn.Module] = [encoder]
    if unlocked_layers:
        parts = _parts(encoder)
        if not 0 < unlocked_layers <= len(parts):
            raise ValueError(
                f"unlocked_layers {unlocked_layers} is out of range: the text encoder has "
                f"{len(parts)} parts, embeddings and {len(parts) - 1} layers"
            )
        parts = parts[:-unlocked_layers]
    for part in parts:
        for name, parameter in part.named_parameters():
            is_norm = "LayerNorm" in name.split(".")
            parameter.requires_grad_(freeze == "all_but_layer_norm" and is_norm)
    return parts


def free_layer_norms(encoder: nn.Module) -> None:
    """Train the LayerNorms of an encoder whose rest is frozen."""
    for name, parameter in encoder.named_parameters():
        if "LayerNorm" in name.split("."):
            parameter.requires_grad_(True)


def _parts(encoder: nn.Module) -> list[nn.Module]:
    embeddings = getattr(encoder, "embeddings", None)
    stacks = [module for module in encoder.modules() if isinstance(module, nn.ModuleList)]
    if not isinstance(embeddings, nn.Module) or not stacks:
        raise ValueError(
            f"a {type(encoder).__name__} is not made of embeddings and a stack of layers; leave "
            "unlocked_layers at 0"
        )
    return [embeddings, *max(stacks, key=len)]
