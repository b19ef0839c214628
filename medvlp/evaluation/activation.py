"""Activation maps of a two-tower model: which voxels of a study speak for a text."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from medvlp.models.two_tower import TwoTower
from medvlp.vision.activation import MapMethod, reads_class_token, relevance
from medvlp.vision.hierarchical_vit import HierarchicalViT


class ActivationMaps(NamedTuple):
    """Maps of one study.

    Attributes:
        maps: For each text and scan, on the grid of tokens or patches; not negative, not
            normalised.
        scores: What was differentiated: the scaled cosine of each text.
        embedding: Of the study, unit length; with a token axis for dual towers.
        method: How the maps were made.
    """

    maps: Float[Tensor, "k s d h w"]
    scores: Float[Tensor, " k"]
    embedding: Float[Tensor, "*p e"]
    method: MapMethod


def activation_maps(
    model: TwoTower,
    image: Float[Tensor, "s c d h w"],
    texts: Float[Tensor, "k e"],
    *,
    method: MapMethod | None = None,
    token: int = 0,
) -> ActivationMaps:
    """Map one study for several texts in one pass.

    The score that is differentiated is the scaled cosine of a text, before any softmax, as
    published.

    Args:
        model: In evaluation mode; its image tower is a `HierarchicalViT`.
        image: Scans of one study.
        texts: Embeddings of the texts, unit length.
        method: See `MapMethod`; None takes the published one where the pooling reads the class
            token, else "patches".
        token: Which embedding of dual towers: 0 speaks of the impression, 1 of the whole report.

    Raises:
        ValueError: If the image tower is of another kind, or see `relevance`.
    """
    vision = _hierarchical(model)
    if method is None:
        method = "attention" if reads_class_token(vision) else "patches"
    scale, texts = _scale(model, token), texts.detach().clone()  # not a tensor of inference mode

    def score(features: Tensor) -> Tensor:
        embedding = F.normalize(model.image_projection(features), dim=-1)[0]
        chosen = embedding if embedding.ndim == 1 else embedding[token]
        return scale * texts @ chosen

    found = relevance(vision, image, score, method=method, token=token)
    with torch.no_grad():
        embedding = F.normalize(model.image_projection(found.features), dim=-1)[0]
    return ActivationMaps(found.maps, found.scores, embedding, method)


def _hierarchical(model: TwoTower) -> HierarchicalViT:
    if not isinstance(model.vision, HierarchicalViT):
        raise ValueError(
            f"activation maps need a HierarchicalViT, the image tower is a "
            f"{type(model.vision).__name__}"
        )
    return model.vision


def normalised(values: Float[Tensor, "*shape"], dims: Sequence[int]) -> Float[Tensor, "*shape"]:
    """Scale linearly to [0, 1] over some axes; what is constant becomes 0."""
    low, high = values.amin(tuple(dims), keepdim=True), values.amax(tuple(dims), keepdim=True)
    return (values - low) / torch.where(high > low, high - low, torch.ones_like(high))


def _scale(model: TwoTower, token: int) -> Tensor:
    """Return the learnt scale of a token; dual models may have one of their own for the second."""
    second = getattr(model, "second_logit_scale", None)
    scale = second if token == 1 and isinstance(second, Tensor) else model.logit_scale
    return scale.detach().exp().squeeze()
