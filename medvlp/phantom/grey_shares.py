"""What a frozen 2D network sees in slices, on twins: how much of each place is how bright."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from medvlp.data.slice_features import SliceFeatures

_VERSION = 1  # raise it when the same fields come to mean other numbers
_GAIN = 50.0  # shares of a few percent, as a wire has them, are to differ visibly


class GreyShares(SliceFeatures):
    """Cut each slice into cells and state the share of each band of grey in each of them.

    It stands for BiomedCLIP where its weights are not at hand: frozen, in 2D, and it sees what the
    volume's window cuts off. Share x becomes log(1 + 50 x).

    Args:
        num_cells: Along each side of a slice.
        edges: Between the bands, rising, in the units of the slices.
    """

    def __init__(self, num_cells: int, edges: Sequence[float]) -> None:
        if num_cells < 1 or not edges or list(edges) != sorted(set(edges)):
            raise ValueError(
                f"num_cells is {num_cells} and edges are {list(edges)}, expected at least one cell "
                "and rising numbers"
            )
        self.num_cells, self.edges = num_cells, tuple(float(edge) for edge in edges)

    @property
    def width(self) -> int:
        """Features of a slice."""
        return self.num_cells**2 * (len(self.edges) + 1)

    def describe(self) -> dict[str, Any]:
        """State everything that changes a number, in JSON types."""
        return {
            "kind": "grey shares",
            "version": _VERSION,
            "num_cells": self.num_cells,
            "edges": list(self.edges),
        }

    def __call__(
        self, slices: Float[Tensor, "m 3 h w"], *, device: str = "cpu"
    ) -> Float[Tensor, "m f"]:
        """State the shares of each slice, cell by cell; red is taken for grey.

        >>> black_and_white = torch.tensor([[0.0, 1.0]]).expand(1, 3, 1, 2)
        >>> GreyShares(1, [0.5])(black_and_white).expm1()
        tensor([[25.0000, 25.0000]])
        """
        edges = torch.tensor(self.edges, device=device)
        bands = torch.bucketize(slices[:, 0].to(device).contiguous(), edges, right=True)
        shares = F.one_hot(bands, len(self.edges) + 1).float().movedim(-1, 1)
        cells = F.adaptive_avg_pool2d(shares, self.num_cells)
        return (_GAIN * cells).log1p().movedim(1, -1).flatten(1).cpu()
