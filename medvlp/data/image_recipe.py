"""Preprocessing of 2D images for networks of a fixed input size: CLIP's published rules."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from medvlp.data.readers.image2d import to_rgb
from medvlp.data.recipe import recipe_hash

if TYPE_CHECKING:
    from PIL.Image import Image

Box = tuple[int, int, int, int]
TrainingResize = Literal["pillow", "torch", "draft"]

_VERSION = 1  # raise it when the same fields come to mean other numbers
_TRIES = 10
_DRAFT = 1.5  # of the input: a crop of nine tenths is still resized down
_DEEP_MODES = ("I", "I;16", "I;16B", "I;16L", "I;16N", "F")


class ImageRecipe:
    """Bicubic resize with antialiasing, square crop, RGB, normalisation.

    Evaluation resizes the shorter side to `size` (the longer one truncated to whole pixels) and
    cuts the centre; training cuts a random rectangle and resizes that. Both give bytes; `finish`
    normalises them on whatever device they lie on.

    Args:
        size: Of the square input, pixels.
        mean: Of red, green, blue after scaling to [0, 1].
        std: Likewise.
        crop_scale: Share of the image's area that a training crop has.
        crop_ratio: Width by height of a training crop, drawn on a logarithmic scale.
        compat: "published" resizes in the file's own mode and converts to RGB afterwards, as
            UniMed-CLIP's code does: palette and 1-bit images are then resized by nearest
            neighbour, and images of more than 8 bits saturate to white. The default converts
            first, and scales deeper images from their own range to 8 bits.
        training_resize: "pillow" gives the published pixels. "torch" resizes grey and RGB images
            several times as fast; a byte in some hundreds is off by one. "draft" besides decodes
            JPEGs at a half, quarter or eighth of their size where that leaves 1.5 times what the
            network sees. Evaluation always takes Pillow's.
    """

    def __init__(
        self,
        size: int,
        *,
        mean: Sequence[float],
        std: Sequence[float],
        crop_scale: Sequence[float] = (0.9, 1.0),
        crop_ratio: Sequence[float] = (3 / 4, 4 / 3),
        compat: Literal["published"] | None = None,
        training_resize: TrainingResize = "pillow",
    ) -> None:
        if size < 1 or len(mean) != 3 or len(std) != 3 or min(std) <= 0:
            raise ValueError(
                f"size is {size}, mean {list(mean)}, std {list(std)}; expected a positive size and "
                "three numbers each, std positive"
            )
        if not 0 < crop_scale[0] <= crop_scale[1] <= 1 or not 0 < crop_ratio[0] <= crop_ratio[1]:
            raise ValueError(
                f"crop_scale is {list(crop_scale)} and crop_ratio {list(crop_ratio)}; expected "
                "rising pairs, the scale between 0 and 1"
            )
        self.size = size
        self.mean, self.std = tuple(map(float, mean)), tuple(map(float, std))
        self.crop_scale = (float(crop_scale[0]), float(crop_scale[1]))
        self.crop_ratio = (float(crop_ratio[0]), float(crop_ratio[1]))
        self._log_ratio = torch.tensor(self.crop_ratio, device="cpu").log().tolist()
        if training_resize not in get_args(TrainingResize):
            raise ValueError(
                f"training_resize is {training_resize!r}; choose one of {get_args(TrainingResize)}"
            )
        self.compat: Literal["published"] | None = compat
        self.training_resize: TrainingResize = training_resize

    def describe(self) -> dict[str, Any]:
        """State everything that changes a number of an evaluation, in JSON types."""
        return {
            "kind": "image",
            "version": _VERSION,
            "size": self.size,
            "mean": list(self.mean),
            "std": list(self.std),
            "resize": "shorter side, bicubic, antialiased, then centre crop",
            "compat": self.compat,
        }

    @property
    def hash(self) -> str:
        """SHA-256 over the description as canonical JSON, 16 hexadecimal digits."""
        return recipe_hash(self.describe())

    def evaluation_input(self, image: "Image") -> UInt8[Tensor, "3 h w"]:
        """Resize the shorter side and cut the centre."""
        image = self._before_resize(image)
        width, height = image.size
        if width <= height:
            shape = (self.size, int(self.size * height / width))
        else:
            shape = (int(self.size * width / height), self.size)
        image = self._resize(image, shape)
        # banker's rounding of the offset, as published
        left, top = (round((length - self.size) / 2) for length in shape)
        return _bytes(image.crop((left, top, left + self.size, top + self.size)))

    def training_input(
        self, image: "Image", generator: np.random.Generator
    ) -> UInt8[Tensor, "3 h w"]:
        """Cut a random rectangle and resize it."""
        chance = torch.Generator().manual_seed(int(generator.integers(2**63)))
        return self.cut(image, self.random_box(image.size, chance))

    def cut(self, image: "Image", box: Box) -> UInt8[Tensor, "3 h w"]:
        """Cut a rectangle and resize it."""
        image = self._before_resize(image)
        if self.training_resize != "pillow" and image.mode in ("L", "RGB"):
            return _cut_by_torch(image, box, self.size)
        return _bytes(self._resize(image.crop(box), (self.size, self.size)))

    @property
    def draft_side(self) -> int | None:
        """The shorter side at which a JPEG may be decoded for training; None: as it is stored."""
        return math.ceil(_DRAFT * self.size) if self.training_resize == "draft" else None

    def random_box(self, size: tuple[int, int], generator: torch.Generator) -> Box:
        """Draw a crop: left, top, right, bottom.

        Area and logarithm of the ratio are uniform; after ten draws that do not fit, the largest
        centred rectangle of an allowed ratio is taken. A seed gives the crop that UniMed-CLIP's
        training code draws under it: the order of draws and their 32 bits are the same.
        """
        width, height = size
        low, high = self._log_ratio
        for _ in range(_TRIES):
            area = width * height * _uniform(*self.crop_scale, generator).item()
            ratio = _uniform(low, high, generator).exp().item()
            w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < w <= width and 0 < h <= height:
                top = int(torch.randint(height - h + 1, (1,), generator=generator))
                left = int(torch.randint(width - w + 1, (1,), generator=generator))
                return left, top, left + w, top + h
        ratio = min(max(width / height, self.crop_ratio[0]), self.crop_ratio[1])
        w, h = min(width, round(height * ratio)), min(height, round(width / ratio))
        left, top = (width - w) // 2, (height - h) // 2
        return left, top, left + w, top + h

    def finish(self, image: UInt8[Tensor, "... 3 h w"]) -> Float[Tensor, "... 3 h w"]:
        """Scale to [0, 1] and normalise, in float32."""
        mean, std = (
            torch.tensor(values, device=image.device)[:, None, None]
            for values in (self.mean, self.std)
        )
        return image.to(torch.float32).div_(255).sub_(mean).div_(std)

    def _before_resize(self, image: "Image") -> "Image":
        if self.compat == "published" or image.mode == "RGB":
            return image
        if image.mode in _DEEP_MODES:
            return _to_eight_bits(image)
        # grey stays grey until the end: a third of the work
        return image if image.mode == "L" else to_rgb(image)

    def _resize(self, image: "Image", shape: tuple[int, int]) -> "Image":
        from PIL.Image import Resampling

        if image.size == shape:
            return image
        return _one_channel(image).resize(shape, Resampling.BICUBIC)


def _uniform(low: float, high: float, generator: torch.Generator) -> Float[Tensor, "1"]:
    return torch.empty(1).uniform_(low, high, generator=generator)


def _to_eight_bits(image: "Image") -> "Image":
    from PIL import Image

    values = np.asarray(image, dtype=np.float32)
    low, high = float(values.min()), float(values.max())
    if not math.isfinite(low) or not math.isfinite(high):
        raise ValueError("the image has pixels that are NaN or infinite")
    scaled = (values - low) * (255 / max(high - low, 1e-6))
    return Image.fromarray(scaled.round().astype(np.uint8))


def _one_channel(image: "Image") -> "Image":
    """Take one channel of a grey image that is stored in colour: a third of the work."""
    if image.mode != "RGB":
        return image
    from PIL.Image import Resampling

    few = np.asarray(image.resize((16, 16), Resampling.NEAREST))
    if (few != few[..., :1]).any():
        return image
    red, green, blue = image.split()
    same = red.tobytes() == green.tobytes() == blue.tobytes()
    return red if same else image


def _cut_by_torch(image: "Image", box: Box, size: int) -> UInt8[Tensor, "3 h w"]:
    left, top, right, bottom = box
    part = np.array(np.atleast_3d(np.asarray(image))[top:bottom, left:right])
    channels = torch.from_numpy(part).permute(2, 0, 1)[None]
    resized = F.interpolate(channels, size=(size, size), mode="bicubic", antialias=True)[0]
    return resized.expand(3, -1, -1)


def _bytes(image: "Image") -> UInt8[Tensor, "3 h w"]:
    """View the pixels of an image; who batches them copies them, in one go."""
    if image.mode == "L":
        return torch.from_numpy(np.array(image)).expand(3, -1, -1)
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)
