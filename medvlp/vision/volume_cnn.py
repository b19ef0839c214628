"""HCL-AL's convolutional image towers: patches around a lesion, with axes x, y, z."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from medvlp.layers.size import as_size
from medvlp.types import Size3D

_NUM_STAGES = 4
_RESIDUAL_LAYERS = (1, 2, 3, 3)
_STRIDE = 2**_NUM_STAGES


class VolumeCNN(nn.Module, ABC):
    """Encode patches of one size, one a study.

    Args:
        image_size: Voxels of a patch along x, y, z; None takes any size.
        in_channels: Channels of the patches.

    Attributes:
        embed_dim: Width of the features.

    Reference: HCL-AL (Gao et al., IEEE TMI 2025, doi 10.1109/TMI.2025.3599197); its code,
    github.com/HerrBaum-YR/HCL-AL.
    """

    embed_dim: int

    def __init__(self, image_size: Sequence[int] | None, in_channels: int) -> None:
        super().__init__()
        self.image_size = None if image_size is None else as_size(image_size, "image_size")
        self.in_channels = in_channels

    def forward(
        self, image: Float[Tensor, "n c x y z"], num_scans: Int[Tensor, " b"]
    ) -> Float[Tensor, "b e"]:
        """Return the features of each patch, before projection.

        Args:
            image: Normalised patches.
            num_scans: One per patch, all ones.

        Raises:
            ValueError: If a study has several patches, or they are not of the tower's size.
        """
        if len(num_scans) != len(image):
            raise ValueError(
                f"{len(image)} patches came for {len(num_scans)} studies; HCL-AL encodes one patch "
                "a study: let each sample be one lesion"
            )
        size = tuple(image.shape[2:]) if self.image_size is None else self.image_size
        if tuple(image.shape[1:]) != (self.in_channels, *size):
            raise ValueError(
                f"patches of {tuple(image.shape[1:])} came (channels, x, y, z), the tower takes "
                f"{(self.in_channels, *size)}: its projection is made for that size; choose the "
                "data recipe of this model, or set model.vision.image_size and in_channels and "
                "train anew"
            )
        return self._features(image)

    def folded(self) -> "VolumeCNN":
        """Copy the tower for evaluation alone: batch norm lies within the convolution before it.

        Features are the same but for rounding. Channels come last in memory, as convolutions on a
        CPU are fastest; patches should too.
        """
        tower = deepcopy(self).eval().requires_grad_(False)
        for part in tower.modules():
            if isinstance(part, _ConvNorm):
                _fold(part, "conv", "norm")
            elif isinstance(part, _DenseLayer):
                _fold(part, "conv1", "norm2")
        layout: Any = {"memory_format": torch.channels_last_3d}  # PyTorch's stubs lack the keyword
        return tower.to(**layout)

    @abstractmethod
    def _features(self, image: Tensor) -> Tensor:
        """Return the features of checked patches."""


class BasicNet(VolumeCNN):
    """Convolve and halve four times, and keep every cell: the crop's size is part of the weights.

    Args:
        image_size: Voxels of a patch along x, y, z; multiples of 16.
        base_channels: Of the first convolution; each halving doubles them.
        in_channels: Channels of the patches.

    Raises:
        ValueError: If a side is no multiple of 16.
    """

    def __init__(
        self, image_size: Sequence[int], *, base_channels: int = 16, in_channels: int = 3
    ) -> None:
        super().__init__(image_size, in_channels)
        self.stem = _ConvNorm(in_channels, base_channels)
        widths = [base_channels * 2**stage for stage in range(_NUM_STAGES + 1)]
        self.stages = nn.ModuleList(
            self._stage(stage, widths[stage], widths[stage + 1]) for stage in range(_NUM_STAGES)
        )
        self.embed_dim = widths[-1] * _num_cells(as_size(image_size, "image_size"))

    def _stage(self, number: int, width: int, wider: int) -> nn.Module:
        return _ConvNorm(width, wider, stride=2)

    def _features(self, image: Tensor) -> Tensor:
        maps = self.stem(image)
        for stage in self.stages:
            maps = stage(maps)
        return maps.flatten(1)


class ResidualNet(BasicNet):
    """As `BasicNet`, with a group of 1, 2, 3 and 3 convolutions added to itself in each stage.

    Args:
        image_size: Voxels of a patch along x, y, z; multiples of 16.
        base_channels: Of the first convolution; each halving doubles them.
        in_channels: Channels of the patches.

    Raises:
        ValueError: If a side is no multiple of 16.
    """

    def _stage(self, number: int, width: int, wider: int) -> nn.Module:
        return _ResidualStage(width, wider, num_layers=_RESIDUAL_LAYERS[number])


class DenseNet(VolumeCNN):
    """Dense blocks with transitions between them, averaged over the whole patch of any size.

    The published code averages over a window with the axes reversed: the same for cubes, and an
    error for other crops.

    Args:
        growth_rate: Channels that each layer adds.
        blocks: Number of layers of each dense block.
        stem_channels: Of the first convolution.
        in_channels: Channels of the patches.
        image_size: Voxels of a patch along x, y, z, if only one size is to be taken.
    """

    def __init__(
        self,
        growth_rate: int = 32,
        blocks: Sequence[int] = (4, 4, 4, 4),
        *,
        stem_channels: int = 16,
        in_channels: int = 3,
        image_size: Sequence[int] | None = None,
    ) -> None:
        super().__init__(image_size, in_channels)
        self.entry = _ConvNorm(in_channels, stem_channels, kernel=7, bias=False)
        self.pool = nn.MaxPool3d(3, stride=2, padding=1)
        self.parts = nn.ModuleList()
        width = stem_channels
        for number, num_layers in enumerate(blocks):
            if number:
                self.parts.append(_Transition(width, width // 2))
                width //= 2
            self.parts.append(_DenseBlock(width, growth_rate, num_layers))
            width += growth_rate * num_layers
        self.last_norm = nn.BatchNorm3d(width)
        self.embed_dim = width

    def _features(self, image: Tensor) -> Tensor:
        maps = self.pool(self.entry(image))
        for part in self.parts:
            maps = part(maps)
        return F.relu(self.last_norm(maps)).mean(dim=(2, 3, 4))


class _ConvNorm(nn.Module):
    """Convolution, batch norm, and ReLU unless it is left to the caller."""

    def __init__(
        self,
        channels: int,
        wider: int,
        *,
        kernel: int = 3,
        stride: int = 1,
        bias: bool = True,
        relu: bool = True,
    ) -> None:
        super().__init__()
        padding = (kernel - 1) // 2
        self.conv = nn.Conv3d(channels, wider, kernel, stride=stride, padding=padding, bias=bias)
        self.norm = nn.BatchNorm3d(wider)
        self.relu = relu

    def forward(self, maps: Float[Tensor, "n c x y z"]) -> Float[Tensor, "n d u v w"]:
        normed = self.norm(self.conv(maps))
        return F.relu(normed, inplace=True) if self.relu else normed


class _ResidualStage(nn.Module):
    def __init__(self, width: int, wider: int, *, num_layers: int) -> None:
        super().__init__()
        self.down = _ConvNorm(width, wider, kernel=2, stride=2)
        self.layers = nn.Sequential(
            *(_ConvNorm(wider, wider, relu=number < num_layers - 1) for number in range(num_layers))
        )

    def forward(self, maps: Float[Tensor, "n c x y z"]) -> Float[Tensor, "n d u v w"]:
        maps = self.down(maps)
        return F.relu(self.layers(maps) + maps, inplace=True)


class _DenseBlock(nn.Module):
    def __init__(self, width: int, growth_rate: int, num_layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            _DenseLayer(width + number * growth_rate, growth_rate) for number in range(num_layers)
        )

    def forward(self, maps: Float[Tensor, "n c x y z"]) -> Float[Tensor, "n d x y z"]:
        for layer in self.layers:
            maps = torch.cat((maps, layer(maps)), dim=1)
        return maps


class _DenseLayer(nn.Module):
    def __init__(self, width: int, growth_rate: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm3d(width)
        self.conv1 = nn.Conv3d(width, growth_rate, 1, bias=False)
        self.norm2 = nn.BatchNorm3d(growth_rate)
        self.conv2 = nn.Conv3d(growth_rate, growth_rate, 3, padding=1, bias=False)

    def forward(self, maps: Float[Tensor, "n c x y z"]) -> Float[Tensor, "n g x y z"]:
        squeezed = self.conv1(F.relu(self.norm1(maps)))
        return self.conv2(F.relu(self.norm2(squeezed)))


class _Transition(nn.Module):
    def __init__(self, width: int, narrower: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm3d(width)
        self.conv = nn.Conv3d(width, narrower, 1, bias=False)

    def forward(self, maps: Float[Tensor, "n c x y z"]) -> Float[Tensor, "n d u v w"]:
        return F.avg_pool3d(self.conv(F.relu(self.norm(maps))), 2)


def _fold(part: nn.Module, conv: str, norm: str) -> None:
    if isinstance(found := getattr(part, norm), nn.BatchNorm3d):
        setattr(part, conv, fuse_conv_bn_eval(getattr(part, conv), found))
        setattr(part, norm, nn.Identity())


def _num_cells(image_size: Size3D) -> int:
    if any(side % _STRIDE for side in image_size):
        raise ValueError(
            f"patches of {image_size} voxels cannot be halved {_NUM_STAGES} times; choose "
            f"multiples of {_STRIDE}"
        )
    x, y, z = image_size
    return x * y * z // _STRIDE**3
