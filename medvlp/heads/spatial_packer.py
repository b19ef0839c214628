"""From the many patch tokens of a volume to the few that a language model reads."""

import math
from collections.abc import Sequence

from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from medvlp.layers.guided_attention import GuidedAttention
from medvlp.layers.size import as_size


class SpatialPacker(nn.Module):
    """Compress each cell of neighbouring tokens to one: its mean looks at the cell's tokens.

    Args:
        dim: Width of the tokens.
        out_dim: Width of the language model.
        kernel: Tokens of a cell along depth, height, width; must divide the grid.
        grid: Tokens of a volume along depth, height, width.
        dropout: Probability in training, in the attention.

    Raises:
        ValueError: If the kernel does not divide the grid.

    Reference: HSENet (arXiv 2506.09634), Spatial Packer; its code, github.com/YanzhaoShi/HSENet.
    """

    def __init__(
        self,
        dim: int,
        out_dim: int,
        *,
        kernel: Sequence[int],
        grid: Sequence[int],
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.cells = _Cells(kernel, grid)
        self.num_tokens = self.cells.count
        self.attention = GuidedAttention(dim, dropout=dropout)
        self.projection = _projection(dim, out_dim)

    def forward(self, tokens: Float[Tensor, "n t e"]) -> Float[Tensor, "n k f"]:
        """Return one token for each cell, in the order depth, height, width.

        Args:
            tokens: Of the patches alone, without the class token, in the same order.

        Raises:
            ValueError: If there are not as many tokens as the grid has.
        """
        cells = self.cells(tokens)
        packed = self.attention(cells.mean(1, keepdim=True), cells)
        return self.projection(packed.unflatten(0, (len(tokens), -1)).squeeze(2))

    def weights(self, tokens: Float[Tensor, "n t e"]) -> Float[Tensor, "n k p"]:
        """Say how much each cell looks at each of its p tokens."""
        cells = self.cells(tokens)
        weights = self.attention.weights(cells.mean(1, keepdim=True), cells)
        return weights.unflatten(0, (len(tokens), -1)).squeeze(2)


class MeanPacker(nn.Module):
    """Average the tokens of each cell: the packer without attention.

    Args:
        dim: Width of the tokens.
        out_dim: Width of the language model.
        kernel: See `SpatialPacker`.
        grid: See `SpatialPacker`.

    Raises:
        ValueError: If the kernel does not divide the grid.
    """

    def __init__(
        self, dim: int, out_dim: int, *, kernel: Sequence[int], grid: Sequence[int]
    ) -> None:
        super().__init__()
        self.cells = _Cells(kernel, grid)
        self.num_tokens = self.cells.count
        self.projection = _projection(dim, out_dim)

    def forward(self, tokens: Float[Tensor, "n t e"]) -> Float[Tensor, "n k f"]:
        """Return one token for each cell, see `SpatialPacker`.

        Raises:
            ValueError: If there are not as many tokens as the grid has.
        """
        return self.projection(self.cells(tokens).mean(1).unflatten(0, (len(tokens), -1)))


class SequencePacker(nn.Module):
    """Average runs of consecutive tokens, whatever their places.

    Args:
        dim: Width of the tokens.
        out_dim: Width of the language model.
        run: Tokens of a run; must divide their number.
        num_patches: Tokens of a volume.

    Raises:
        ValueError: If the run does not divide the number of tokens.
    """

    def __init__(self, dim: int, out_dim: int, *, run: int, num_patches: int) -> None:
        super().__init__()
        if run < 1 or num_patches < 1 or num_patches % run:
            raise ValueError(
                f"{num_patches} tokens do not divide into runs of {run}; choose a divisor"
            )
        self.run, self.num_patches = run, num_patches
        self.num_tokens = num_patches // run
        self.projection = _projection(dim, out_dim)

    def forward(self, tokens: Float[Tensor, "n t e"]) -> Float[Tensor, "n k f"]:
        """Return one token for each run, in their order.

        Raises:
            ValueError: If there are not as many tokens as stated.
        """
        _check_count(tokens, self.num_patches)
        return self.projection(tokens.unflatten(1, (-1, self.run)).mean(2))


class _Cells(nn.Module):
    """Regroup tokens into the cells of a grid."""

    def __init__(self, kernel: Sequence[int], grid: Sequence[int]) -> None:
        super().__init__()
        self.kernel, self.grid = as_size(kernel, "kernel"), as_size(grid, "grid")
        if any(tokens % size for tokens, size in zip(self.grid, self.kernel, strict=True)):
            raise ValueError(
                f"cells of {self.kernel} tokens do not divide the grid {self.grid}; choose a "
                "kernel that divides it along each axis"
            )
        self.count = math.prod(self.grid) // math.prod(self.kernel)

    def forward(self, tokens: Float[Tensor, "n t e"]) -> Float[Tensor, "k p e"]:
        _check_count(tokens, math.prod(self.grid))
        d, h, w = (g // k for g, k in zip(self.grid, self.kernel, strict=True))
        _, kh, kw = self.kernel
        pattern = "n (d kd h kh w kw) e -> (n d h w) (kd kh kw) e"
        return rearrange(tokens, pattern, d=d, h=h, w=w, kh=kh, kw=kw)

    def extra_repr(self) -> str:
        return f"kernel={self.kernel}, grid={self.grid}"


def _projection(dim: int, out_dim: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(dim, out_dim), nn.GELU(), nn.Linear(out_dim, out_dim))


def _check_count(tokens: Tensor, expected: int) -> None:
    if tokens.shape[1] != expected:
        raise ValueError(
            f"{tokens.shape[1]} tokens a volume came, the packer takes {expected}; leave out the "
            "class token, and give the packer the grid of its image tower"
        )
