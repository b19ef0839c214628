"""Fixed position tables, their resampling, and their inflation from 2D models."""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from medvlp.types import Size3D


def sincos_table_1d(length: int, dim: int) -> Float[Tensor, "n c"]:
    """Build rows [sin(p w), cos(p w)] with w_k = 10000^(-k / (dim / 2)).

    >>> sincos_table_1d(2, 2)
    tensor([[0.0000, 1.0000],
            [0.8415, 0.5403]])

    Raises:
        ValueError: If `dim` is odd.
    """
    if dim % 2:
        raise ValueError(f"a sine-cosine table needs an even width, {dim} came")
    half = dim // 2
    omega = 10000.0 ** -(torch.arange(half, dtype=torch.float32) / half)
    angle = torch.arange(length, dtype=torch.float32)[:, None] * omega
    return torch.cat((angle.sin(), angle.cos()), dim=1)


def sincos_table_3d(grid: Size3D, dim: int) -> Float[Tensor, "1 d h w c"]:
    """Build a table whose channels are a width, a height and a depth part, in this order.

    Each part is as wide as the largest even number up to a third of `dim`; where `dim` is not
    divisible by 6 (the published code refuses that), the channels left over are zero.
    """
    d, h, w = grid
    part = dim // 6 * 2
    along_w = sincos_table_1d(w, part).expand(d, h, w, part)
    along_h = sincos_table_1d(h, part)[:, None].expand(d, h, w, part)
    along_d = sincos_table_1d(d, part)[:, None, None].expand(d, h, w, part)
    table = torch.cat((along_w, along_h, along_d), dim=-1)
    return F.pad(table, (0, dim - 3 * part))[None]


def resample_grid(table: Float[Tensor, "1 d h w c"], grid: Size3D) -> Float[Tensor, "1 gd gh gw c"]:
    """Resize a 3D table trilinearly to another token grid; the same grid is left untouched."""
    if tuple(table.shape[1:4]) == tuple(grid):
        return table
    resized = F.interpolate(
        rearrange(table, "1 d h w c -> 1 c d h w"), size=tuple(grid), mode="trilinear"
    )
    return rearrange(resized, "1 c d h w -> 1 d h w c")


def resample_plane(table: Float[Tensor, "m c"], num_rows: int) -> Float[Tensor, "r c"]:
    """Resize a square 2D table behind the row of a class token, which is kept as it is.

    Bicubic with aligned corners, without antialiasing; newer open_clip resizes otherwise.

    Raises:
        ValueError: If the rows behind the first, here or there, are no square.

    Reference: the checkpoint loader of MetaCLIP's code, which UniMed-CLIP uses.
    """
    old, new = (math.isqrt(rows - 1) for rows in (len(table), num_rows))
    if (old**2 + 1, new**2 + 1) != (len(table), num_rows):
        raise ValueError(
            f"{len(table)} rows came and {num_rows} are wanted: one for the class token, the "
            "others must be a square grid"
        )
    plane = rearrange(table[1:], "(h w) c -> 1 c h w", h=old)
    plane = F.interpolate(plane, size=(new, new), mode="bicubic", align_corners=True)
    return torch.cat((table[:1], rearrange(plane, "1 c h w -> (h w) c")))


def resample_rows(table: Float[Tensor, "1 m c"], num_rows: int) -> Float[Tensor, "1 r c"]:
    """Take the first rows of a 1D table; stretch it linearly where it has too few."""
    if num_rows <= table.shape[1]:
        return table[:, :num_rows]
    stretched = F.interpolate(table.transpose(1, 2), size=num_rows, mode="linear")
    return stretched.transpose(1, 2)


class TooManyScansError(ValueError):
    """A study has more scans than there are position rows to draw from.

    Args:
        most_scans: Of the largest study.
        num_rows: Of the table.
    """

    def __init__(self, most_scans: int, num_rows: int) -> None:
        self.most_scans = most_scans
        self.num_rows = num_rows
        super().__init__(
            f"a study has {most_scans} scans, the table has {num_rows} rows: in training (and by "
            "the published rule in batches of several studies) they are drawn, not stretched; "
            "sample fewer scans per study, or raise max_num_scans"
        )


class ScanPositions:
    """How many scans of a study have a position row, and which rows are taken.

    Args:
        max_num_scans: Rows of the table; with 0 or 1 there is no table, and the order of scans
            does not matter.
        rule: "mode": in training a random permutation of the rows, the same for all studies of
            the batch, in evaluation the first rows. "published": the behaviour of HLIP's code,
            where a batch of more than one study counts as training whatever the mode.
    """

    def __init__(
        self, max_num_scans: int = 1, *, rule: Literal["mode", "published"] = "mode"
    ) -> None:
        if rule not in ("mode", "published"):
            raise ValueError(f"scan position rule {rule!r} is unknown; choose mode or published")
        self.max_num_scans = max_num_scans
        self.rule = rule

    @property
    def has_table(self) -> bool:
        """Whether scans are told apart by position."""
        return self.max_num_scans > 1

    def draw(self, training: bool, num_studies: int, most_scans: int) -> Int[Tensor, " r"] | None:
        """Draw rows for training; None means the first rows, stretched where they are too few.

        Raises:
            TooManyScansError: If rows are drawn and a study has more scans than there are rows.
        """
        if not (training if self.rule == "mode" else num_studies != 1):
            return None
        if most_scans > self.max_num_scans:
            raise TooManyScansError(most_scans, self.max_num_scans)
        return torch.randperm(self.max_num_scans)[:most_scans]


def inflate_patch_weight(
    weight: Float[Tensor, "e c ph pw"], patch_size: Size3D
) -> Float[Tensor, "e 1 d h w"]:
    """Turn a 2D colour patch embedding into a 3D grey one that answers alike.

    Bicubic in the plane, without antialiasing, where the patch differs; summed over colours;
    repeated over the depth and divided by it.
    """
    depth, height, width = patch_size
    if tuple(weight.shape[2:]) != (height, width):
        weight = F.interpolate(weight, size=(height, width), mode="bicubic")
    grey = weight.sum(1, keepdim=True)[:, :, None]
    return grey.expand(-1, -1, depth, -1, -1) / depth


def spread_pos_embed(table: Float[Tensor, "n c"], grid: Size3D) -> Float[Tensor, "1 d h w c"]:
    """Repeat a square 2D table over the depth, resized bilinearly to the plane of the grid.

    Reference: the start of fVLM's image tower, in its code.
    """
    depth, height, width = grid
    plane = rearrange(table, "(h w) c -> 1 c h w", h=math.isqrt(table.shape[0]))
    plane = F.interpolate(plane, size=(height, width), mode="bilinear")
    return rearrange(plane, "1 c h w -> 1 1 h w c").expand(-1, depth, -1, -1, -1)


def inflate_pos_embed(table: Float[Tensor, "n c"], grid: Size3D) -> Float[Tensor, "1 d h w c"]:
    """Add a 1D sine-cosine table over the depth to a square 2D table.

    The 2D table is resized bicubically with antialiasing where the grid differs.
    """
    depth, height, width = grid
    side = math.isqrt(table.shape[0])
    plane = rearrange(table, "(h w) c -> 1 c h w", h=side)
    if (side, side) != (height, width):
        plane = F.interpolate(plane, size=(height, width), mode="bicubic", antialias=True)
    along_depth = sincos_table_1d(depth, table.shape[1])[:, None, None]
    return along_depth[None] + rearrange(plane, "1 c h w -> 1 1 h w c")
