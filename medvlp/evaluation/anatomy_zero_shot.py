"""Zero-shot scores of findings, each looked for in the embedding of its organ."""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from jaxtyping import Float, Int, Integer
from torch import Tensor
from torch.nn import functional as F

from medvlp.data.anatomy_windows import end_padding, organ_windows
from medvlp.evaluation.zero_shot import pair_probabilities
from medvlp.types import Size3D

EmbedOrgans = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""From image (b c d h w), number of scans (b) and anatomy mask to (b o e), present (b o)."""


@torch.no_grad()
def embed_organs(
    embed_image: EmbedOrgans,
    image: Float[Tensor, "b c d h w"],
    anatomy_mask: Integer[Tensor, "b _ _ _"],
    *,
    num_organs: int,
    window: Size3D | None,
    multiple: Size3D,
    compat: Literal["published"] | None = None,
) -> Float[Tensor, "b o e"]:
    """Embed each organ in a window around it; an absent organ is a row of NaN.

    The published evaluation runs the tower once for every organ. Organs whose windows agree share
    a pass here, with the same result: of a volume not larger than the window, all of them.

    Args:
        embed_image: Of the model, as `FVLM.embed_image`.
        image: One scan a study.
        anatomy_mask: Organ number + 1, 0 elsewhere.
        num_organs: That the model knows.
        window: Smallest size of a window; None embeds all organs in the whole volume.
        multiple: Zeros are added at the end of each axis up to a multiple of this.
        compat: "published" cuts the last layer off an organ longer than the window, see
            `window_placement`.

    Raises:
        ValueError: If the mask is on another grid, or an embedding is not finite.

    Reference: fVLM (ICLR 2025, arXiv 2501.14548), published zero-shot evaluation.
    """
    _check_grid(image, anatomy_mask)
    found: list[tuple[int, int, Tensor]] = []
    for row, mask in enumerate(anatomy_mask):
        for cut, organs in organ_windows(mask.cpu().numpy(), num_organs, window, compat=compat):
            part, labels = image[row : row + 1, :, *cut], _labels_of(organs, mask[cut])[None]
            embedding, present = _embed_part(embed_image, part, labels, multiple)
            found += [(row, organ, embedding[0, organ]) for organ in organs if present[0, organ]]
    if not found:
        return _no_organs(embed_image, image, anatomy_mask, multiple)
    return _placed(found, len(image), num_organs)


def _check_grid(image: Tensor, anatomy_mask: Tensor) -> None:
    if anatomy_mask.shape[1:] != image.shape[2:]:
        raise ValueError(
            f"the anatomy mask has {tuple(anatomy_mask.shape[1:])} voxels, the image "
            f"{tuple(image.shape[2:])}; both must come from one recipe: prepare them together"
        )


def _placed(
    found: Sequence[tuple[int, int, Tensor]], num_images: int, num_organs: int
) -> Float[Tensor, "b o e"]:
    """Put embeddings at their image and organ; NaN elsewhere."""
    embeddings = torch.stack([embedding for _, _, embedding in found])
    if not embeddings.isfinite().all():  # NaN is to mean an absent organ
        raise ValueError(
            "the model's embeddings of organs are not finite; look for NaN in the weights or the "
            "prepared scans"
        )
    result = embeddings.new_full((num_images, num_organs, embeddings.shape[1]), torch.nan)
    rows, organs, _ = zip(*found, strict=True)
    result[list(rows), list(organs)] = embeddings
    return result


def _no_organs(
    embed_image: EmbedOrgans, image: Tensor, anatomy_mask: Tensor, multiple: Size3D
) -> Tensor:
    """Return NaN alone; a pass over one patch tells how many."""
    corner = (slice(0, 1), *(slice(0, length) for length in multiple))
    labels = torch.zeros_like(anatomy_mask[corner])
    embedding, _ = _embed_part(embed_image, image[:1, :, *corner[1:]], labels, multiple)
    return torch.full_like(embedding, torch.nan).repeat(len(image), 1, 1)


def _labels_of(organs: Sequence[int], mask: Tensor) -> Tensor:
    """Keep the labels of these organs alone."""
    kept = torch.stack([mask == organ + 1 for organ in organs]).any(0)
    return torch.where(kept, mask, 0)


def _embed_part(
    embed_image: EmbedOrgans, image: Tensor, labels: Tensor, multiple: Size3D
) -> tuple[Tensor, Tensor]:
    d, h, w = end_padding(image.shape[2:], multiple)
    space = (0, w, 0, h, 0, d)
    one = torch.ones(1, dtype=torch.int64)
    return embed_image(F.pad(image, space), one, F.pad(labels, space))


def organ_probabilities(
    organ_embedding: Float[Tensor, "b o e"],
    prompts: Float[Tensor, "k 2 e"],
    organ: Int[Tensor, " k"],
    temperature: Float[Tensor, "..."] | float,
) -> Float[Tensor, "b k"]:
    """Return the probability of each finding's positive prompt against its negative one.

    Args:
        organ_embedding: Unit length; NaN where the organ is absent, and so is the result.
        prompts: Negative, positive; unit length.
        organ: Of each finding, its number.
        temperature: Divides the cosines.

    >>> organ_probabilities(torch.ones(1, 1, 1), torch.ones(1, 2, 1), torch.tensor([0]), 0.07)
    tensor([[0.5000]])
    """
    cosine = torch.einsum("bke,kpe->bkp", organ_embedding[:, organ], prompts)
    return pair_probabilities(cosine, 1 / temperature)[..., 1]


def organ_numbers(wanted: Sequence[str], organs: Sequence[str]) -> list[int]:
    """Find the number of each finding's organ among those of the model.

    Raises:
        ValueError: If the model does not know one.
    """
    missing = sorted(set(wanted) - set(organs))
    if missing:
        raise ValueError(
            f"the prompts ask for {', '.join(missing)}, the model knows {', '.join(organs)}; "
            "choose prompts about these organs"
        )
    return [list(organs).index(name) for name in wanted]
