"""Forward a large batch in chunks, keeping the activations of one chunk alone.

The features of all chunks meet in one contrastive loss; in the backward pass one chunk after the
other is forwarded again, with the same dropout, and receives its share of the gradient. So memory
is that of one chunk, time that of a second forward pass, and the gradient that of the whole batch.
"""

from collections.abc import Callable, Sequence
from itertools import accumulate

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from medvlp.types import Tokens


def embed_chunks(
    embed: Callable[..., Tensor], chunks: Sequence[tuple[Tensor, ...]]
) -> Float[Tensor, "r ..."]:
    """Embed each chunk, to be embedded again in the backward pass, and join the rows.

    One chunk alone is embedded once. Random numbers are drawn chunk by chunk, and drawn alike the
    second time.

    Args:
        embed: Makes rows that depend on nothing outside their chunk.
        chunks: Its arguments.
    """
    if len(chunks) == 1:
        return embed(*chunks[0])
    rows = [checkpoint(embed, *chunk, use_reentrant=False) for chunk in chunks]
    return torch.cat(rows)


def chunk_studies(
    image: Float[Tensor, "n c *d h w"], num_scans: Int[Tensor, " b"], num_chunks: int
) -> list[tuple[Tensor, ...]]:
    """Cut studies into runs of nearly equal numbers, as many as there are studies at most.

    >>> counts = torch.tensor([2, 1, 3])
    >>> [tuple(s.shape[:1]) for s, _ in chunk_studies(torch.zeros(6, 1, 1, 1, 1), counts, 2)]
    [(3,), (3,)]
    """
    counts = num_scans.tensor_split(max(1, min(num_chunks, len(num_scans))))
    ends = list(accumulate(int(part.sum()) for part in counts))
    return list(zip(image.tensor_split(ends[:-1]), counts, strict=True))


def chunk_rows(num_chunks: int, *tensors: Shaped[Tensor, "r ..."]) -> list[tuple[Tensor, ...]]:
    """Cut tensors with a row for each study into runs of nearly equal numbers.

    >>> [tuple(map(len, rows)) for rows in chunk_rows(2, torch.zeros(3, 1), torch.zeros(3))]
    [(2, 2), (1, 1)]
    """
    size = max(1, min(num_chunks, len(tensors[0])))
    return list(zip(*(tensor.tensor_split(size) for tensor in tensors), strict=True))


def chunk_tokens(tokens: Tokens, num_chunks: int) -> list[Tokens]:
    """Cut texts into runs of nearly equal numbers, as many as there are texts at most."""
    return [Tokens(*part) for part in chunk_rows(num_chunks, *tokens)]
