"""Start the image side of a CLIP model from MetaCLIP."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from torch import Tensor, nn

from medvlp.checkpoints.adapter import (
    CheckpointMismatchError,
    LoadReport,
    compare,
    load_published,
    to_published,
)
from medvlp.checkpoints.files import read_weights
from medvlp.checkpoints.unimed_clip import IMAGE_PART, UNIMED_CLIP, is_unimed_clip
from medvlp.checkpoints.unimed_clip_facts import Shapes, clip_image_facts

# CLIP's own text tower, and what OpenAI's files say of the sizes.
_DROPPED = (
    r"transformer\..+",
    r"token_embedding\.weight",
    r"positional_embedding",
    r"ln_final\.(weight|bias)",
    r"text_projection",
    r"attn_mask",
    r"input_resolution|context_length|vocab_size",
)
_TABLE = replace(IMAGE_PART, ignored=dict.fromkeys(_DROPPED, lambda tensor: True))
_OUR_TEXT = ("text.", "text_projection.")


def init_from_metaclip(model: nn.Module, weights: str | Path | Mapping[str, Tensor]) -> LoadReport:
    """Load image tower, projection and scale of a CLIP model; drop its text tower by name.

    Positions are resized where the grids differ.

    Args:
        model: A `TwoTower` with an `ImageViT`.
        weights: A file, or its tensors without wrappers.

    Returns:
        What became of every name; `ignored` is what was dropped, `missing` our text tower.

    Raises:
        CheckpointMismatchError: If something of the image side is missing, misshapen or left over.
        ValueError: If the model or the file is of another kind.

    Reference: github.com/facebookresearch/MetaCLIP; the start of UniMed-CLIP, arXiv 2412.10372.
    """
    if not is_unimed_clip(model):
        raise ValueError(
            "init=metaclip fills a TwoTower of an ImageViT and an MLP text head, such as "
            f"model=unimed_clip_vit_b16; a {type(model).__name__} of other parts came: choose "
            "init=none"
        )
    name = str(weights) if isinstance(weights, (str, Path)) else "the file"
    tensors = read_weights(weights) if isinstance(weights, (str, Path)) else weights
    _check_kind(tensors, name)
    _, report = compare(model, tensors, _TABLE, resize_positions=True)
    report.missing = [own for own in report.missing if not own.startswith(_OUR_TEXT)]
    if not report.complete:
        different = _differences(model, {key: list(t.shape) for key, t in tensors.items()})
        raise CheckpointMismatchError(report, name=name, differences=different)
    return load_published(model, tensors, _TABLE, strict=False, resize_positions=True)


def _check_kind(tensors: Mapping[str, Tensor], name: str) -> None:
    if any(key.startswith(("text_encoder.", "text.")) for key in tensors):
        raise ValueError(
            f"{name} holds a whole model with a text tower of its own, not MetaCLIP; start from it "
            "with init=published"
        )
    if "visual.class_embedding" not in tensors or "logit_scale" not in tensors:
        shown = ", ".join(sorted(tensors)[:3])
        raise ValueError(
            f"{name} is not a MetaCLIP file: it has no visual.class_embedding or no logit_scale "
            f"(its tensors begin with {shown}); give MetaCLIP's own .pt file, such as b16_400m.pt"
        )


def _differences(model: nn.Module, shapes: Shapes) -> list[str]:
    own = to_published(model.state_dict(), UNIMED_CLIP)
    here = clip_image_facts({key: list(tensor.shape) for key, tensor in own.items()}) or {}
    there = clip_image_facts(shapes) or {}
    return [
        f"{fact}: {there[fact]} in the file, {here[fact]} in the model"
        for fact in there
        if fact != "image size" and there[fact] != here.get(fact)
    ]
