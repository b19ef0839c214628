"""From voxels to patch tokens."""

import math
from collections.abc import Sequence

import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Num
from torch import Tensor, nn

from medvlp.layers.notices import Notices
from medvlp.layers.size import as_size
from medvlp.types import Size3D

_REMAINDER = ("warn", "raise", "ignore")


class PatchEmbed3D(nn.Module):
    """Embed non-overlapping patches linearly; what does not fill a patch is left out.

    Args:
        in_channels: Channels of the volume.
        patch_size: Voxels of a patch.
        embed_dim: Width of the tokens.
        remainder: Of a size that the patch does not divide: "warn" says once what is left out,
            "raise" refuses it, "ignore" says nothing, as the published code of HLIP.
    """

    def __init__(
        self,
        in_channels: int,
        patch_size: Sequence[int],
        embed_dim: int,
        *,
        remainder: str = "warn",
    ) -> None:
        super().__init__()
        if remainder not in _REMAINDER:
            raise ValueError(f"remainder {remainder!r} is unknown; choose {', '.join(_REMAINDER)}")
        self.remainder: str = remainder
        self._notices = Notices(__name__)
        self.in_channels = in_channels
        self.patch_size = as_size(patch_size, "patch_size")
        self.embed_dim = embed_dim
        self.proj = nn.Conv3d(in_channels, embed_dim, self.patch_size, stride=self.patch_size)

    def forward(self, volume: Float[Tensor, "n c d h w"]) -> Float[Tensor, "n gd gh gw e"]:
        """Return the token grid with channels last.

        Raises:
            ValueError: If the channels do not fit, the volume is smaller than one patch, or the
                patch does not divide it where that is refused.
        """
        check_volume(volume, self.in_channels, self.patch_size)
        if self.remainder != "ignore":
            self._look_at_remainder(volume)
        # The same product as the strided convolution, but one matrix product in the layout that
        # the blocks want; the convolution kernels are slower on CPU and transpose the result.
        patches = patchify(volume, self.patch_size)
        return F.linear(patches, self.proj.weight.flatten(1), self.proj.bias)

    def _look_at_remainder(self, volume: Tensor) -> None:
        size = tuple(volume.shape[2:])
        rest = tuple(s % p for s, p in zip(size, self.patch_size, strict=True))
        if not any(rest):
            return
        message = (
            f"volumes of {size} voxels do not divide into patches of {self.patch_size}: the last "
            f"{rest} along depth, height and width belong to no patch; choose a recipe whose size "
            "is a multiple of the patch"
        )
        if self.remainder == "raise":
            raise ValueError(message)
        self._notices.once("remainder", f"{message}; they are left out, as in the published code")


class PerceptronPatchEmbed(nn.Module):
    """Embed patches by a linear layer on their voxels: depth slowest, channel fastest.

    What `PatchEmbed3D` computes, with its weights as MONAI's "perceptron" embedding stores them.

    Args:
        in_channels: Channels of the volume.
        patch_size: Voxels of a patch; must divide the volumes.
        embed_dim: Width of the tokens.
    """

    def __init__(self, in_channels: int, patch_size: Sequence[int], embed_dim: int) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.patch_size = as_size(patch_size, "patch_size")
        self.embed_dim = embed_dim
        self.proj = nn.Linear(in_channels * math.prod(self.patch_size), embed_dim)
        nn.init.trunc_normal_(self.proj.weight, std=0.02)
        nn.init.zeros_(self.proj.bias)

    def forward(self, volume: Float[Tensor, "n c d h w"]) -> Float[Tensor, "n gd gh gw e"]:
        """Return the token grid with channels last.

        Raises:
            ValueError: If the channels do not fit, or the volume is smaller than one patch.
        """
        check_volume(volume, self.in_channels, self.patch_size)
        patches = patchify(volume, self.patch_size)
        return self.proj(patches.unflatten(-1, (self.in_channels, -1)).mT.flatten(-2))


class PatchEmbed2D(nn.Module):
    """Embed the patches of images linearly, row by row.

    Args:
        in_channels: Channels of the images.
        patch_size: Pixels of a side of a patch; must divide the images.
        embed_dim: Width of the tokens.
        bias: Whether the embedding has one.
    """

    def __init__(
        self, in_channels: int, patch_size: int, embed_dim: int, *, bias: bool = False
    ) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.embed_dim = embed_dim
        self.proj = nn.Conv2d(in_channels, embed_dim, patch_size, stride=patch_size, bias=bias)

    def forward(self, image: Float[Tensor, "n c h w"]) -> Float[Tensor, "n p e"]:
        """Return the tokens of each image."""
        size = self.patch_size
        pattern = "n c (gh ph) (gw pw) -> n (gh gw) (c ph pw)"
        patches = rearrange(image, pattern, ph=size, pw=size)
        return F.linear(patches, self.proj.weight.flatten(1), self.proj.bias)  # as `PatchEmbed3D`


def square_patches(image_size: int, patch_size: int) -> int:
    """Count the patches of a square image that they must fill.

    Raises:
        ValueError: If they do not.

    >>> square_patches(224, 16)
    196
    """
    if patch_size < 1 or image_size < 1 or image_size % patch_size:
        raise ValueError(
            f"images of {image_size} pixels a side do not divide into patches of {patch_size}; "
            "choose image_size as a multiple of patch_size"
        )
    return (image_size // patch_size) ** 2


class ConvStemPatchEmbed(nn.Module):
    """Embed small patches linearly, then halve the grid by convolutions while widening.

    Learns from raw voxels in far fewer steps than a plain patch embedding, at small sizes.

    Attributes:
        patch_size: Voxels of a token: those of the last stage.

    Args:
        in_channels: Channels of the volume.
        patch_size: Voxels of a patch of the first, linear embedding.
        embed_dim: Width of the tokens; must be divisible by 2 to the power of `num_stages`.
        num_stages: Stride-2 convolutions of 3^3, each with GroupNorm and GELU, each doubling
            the width.
        num_groups: Groups of the GroupNorms.
    """

    def __init__(
        self,
        in_channels: int,
        patch_size: Sequence[int],
        *,
        embed_dim: int,
        num_stages: int = 2,
        num_groups: int = 8,
    ) -> None:
        super().__init__()
        if embed_dim % 2**num_stages:
            raise ValueError(
                f"embed_dim {embed_dim} cannot be halved {num_stages} times; choose a multiple of "
                f"{2**num_stages}"
            )
        self.in_channels = in_channels
        self.embed_dim = embed_dim
        deep, high, wide = as_size(patch_size, "patch_size")
        scale = 2**num_stages
        self.patch_size: Size3D = (scale * deep, scale * high, scale * wide)
        widths = [embed_dim // 2**i for i in range(num_stages, -1, -1)]
        self.stem = PatchEmbed3D(in_channels, patch_size, widths[0])
        self.stages = nn.ModuleList(
            nn.Sequential(
                nn.Conv3d(width, 2 * width, 3, stride=2, padding=1, bias=False),
                nn.GroupNorm(math.gcd(num_groups, 2 * width), 2 * width),
                nn.GELU(),
            )
            for width in widths[:-1]
        )

    def forward(self, volume: Float[Tensor, "n c d h w"]) -> Float[Tensor, "n gd gh gw e"]:
        """Return the token grid with channels last."""
        grid = rearrange(self.stem(volume), "n d h w e -> n e d h w")
        for stage in self.stages:
            grid = stage(grid)
        return rearrange(grid, "n e d h w -> n d h w e")


def patchify(volume: Num[Tensor, "n c d h w"], patch_size: Size3D) -> Num[Tensor, "n gd gh gw p"]:
    """Cut a volume into patches, each flattened in the order channel, depth, height, width.

    >>> import torch
    >>> patchify(torch.zeros(1, 1, 5, 4, 6), (2, 2, 3)).shape
    torch.Size([1, 2, 2, 2, 12])
    """
    whole = [
        size // patch * patch for size, patch in zip(volume.shape[2:], patch_size, strict=True)
    ]
    return rearrange(
        volume[:, :, : whole[0], : whole[1], : whole[2]],
        "n c (gd pd) (gh ph) (gw pw) -> n gd gh gw (c pd ph pw)",
        pd=patch_size[0],
        ph=patch_size[1],
        pw=patch_size[2],
    )


def check_volume(volume: Tensor, in_channels: int, patch_size: Size3D) -> None:
    """Refuse a volume that the patch embedding cannot take.

    Raises:
        ValueError: If the channels do not fit, or the volume is smaller than one patch.
    """
    if volume.shape[1] != in_channels:
        raise ValueError(
            f"volume has {volume.shape[1]} channels, the patch embedding takes {in_channels}; "
            "set in_channels of model.vision.patch_embed, or check the data recipe"
        )
    size = tuple(volume.shape[2:])
    if any(s < p for s, p in zip(size, patch_size, strict=True)):
        raise ValueError(
            f"volume of {size} voxels is smaller than one patch of {patch_size}; choose a recipe "
            "with a larger size, or a model with smaller patches"
        )
