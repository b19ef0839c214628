"""How images are compared with texts: the published ways by name, and plain similarity."""

from typing import Literal, get_args

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

Scoring = Literal["temperature", "raw_image", "cosine"]
"""temperature: softmax over the texts of the cosine at the learnt scale, UniMed-CLIP's quick start
since April 2025; raw_image: softmax of the image features, not normalised and without scale, times
the normalised texts, which made the numbers that its README prints, its web demo and its notebook;
cosine: no probabilities."""


def image_text_scores(
    image_features: Float[Tensor, "b e"],
    text_features: Float[Tensor, "k e"],
    logit_scale: Float[Tensor, "..."],
    *,
    scoring: Scoring = "temperature",
) -> Float[Tensor, "b k"]:
    """Score every image over all texts.

    Args:
        image_features: After the projection, before any normalisation.
        text_features: Likewise; normalised ones give the same.
        logit_scale: In log space.
        scoring: See `Scoring`; rows of "temperature" and "raw_image" sum to 1.

    Raises:
        ValueError: If there is no such scoring.

    Reference: UniMed-CLIP (arXiv 2412.10372), README of github.com/mbzuai-oryx/UniMed-CLIP.
    """
    if scoring not in get_args(Scoring):
        raise ValueError(f"scoring is {scoring!r}; choose one of {', '.join(get_args(Scoring))}")
    texts = F.normalize(text_features, dim=-1)
    if scoring == "raw_image":
        return (image_features @ texts.T).softmax(dim=-1)
    cosine = F.normalize(image_features, dim=-1) @ texts.T
    return cosine if scoring == "cosine" else (logit_scale.exp() * cosine).softmax(dim=-1)
