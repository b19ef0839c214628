"""The parts that painted 2D images are made of: coordinates, soft shapes, noise, scattered cells.

Coordinates run from -1 (top, left) to 1 (bottom, right), whatever the size of the image.
"""

from functools import lru_cache

import numpy as np
from jaxtyping import Float
from numpy import ndarray

Map = Float[ndarray, "h w"]
Number = float | int


class Canvas:
    """Coordinates of an image, turned, shifted and zoomed a little, and the source of its chance.

    Args:
        size: Pixels along each side.
        generator: Of everything random in the image.
        tilt: Largest turn in radians.
        shift: Largest shift.
        zoom: Largest relative change of scale.
    """

    def __init__(
        self,
        size: int,
        generator: np.random.Generator,
        *,
        tilt: float = 0.08,
        shift: float = 0.08,
        zoom: float = 0.1,
    ) -> None:
        self.size, self.generator = size, generator
        self.plain_y, self.plain_x = _coordinates(size)
        turn, scale = self.between(-tilt, tilt), 1 + self.between(-zoom, zoom)
        cosine, sine = np.float32(np.cos(turn) * scale), np.float32(np.sin(turn) * scale)
        up, left = np.float32(self.between(-shift, shift)), np.float32(self.between(-shift, shift))
        self.y = self.plain_y * cosine + self.plain_x * sine + up
        self.x = self.plain_x * cosine - self.plain_y * sine + left

    def between(self, low: Number, high: Number) -> float:
        """Draw a number."""
        return float(self.generator.uniform(low, high))

    def side(self) -> int:
        """Draw -1 (left) or 1 (right)."""
        return 1 if self.generator.random() < 0.5 else -1

    def blob(
        self,
        y: Number,
        x: Number,
        radii: tuple[Number, Number],
        *,
        turn: Number = 0,
        edge: Number = 8,
    ) -> Map:
        """Draw an ellipse: 1 inside, 0 outside, a soft edge between.

        Args:
            y: Of the middle.
            x: Of the middle.
            radii: Along y and x before turning.
            turn: In radians.
            edge: The larger, the sharper.
        """
        return step(1 - self.radius(y, x, radii, turn=turn), edge)

    def radius(
        self, y: Number, x: Number, radii: tuple[Number, Number], *, turn: Number = 0
    ) -> Map:
        """Measure the distance from the middle of an ellipse; 1 on its edge."""
        dy, dx = self.y - np.float32(y), self.x - np.float32(x)
        if turn:
            cosine, sine = np.float32(np.cos(turn)), np.float32(np.sin(turn))
            dy, dx = dy * cosine + dx * sine, dx * cosine - dy * sine
        return np.sqrt((dy / np.float32(radii[0])) ** 2 + (dx / np.float32(radii[1])) ** 2)

    def cloud(self, patch: float) -> Map:
        """Draw a smooth random field of zero mean and unit spread.

        Args:
            patch: Distance of its independent values.
        """
        count = max(int(2 / patch) + 2, 3)
        weights = _weights(self.size, count)
        field = self.generator.standard_normal((count, count), dtype=np.float32) * 1.5
        return weights @ field @ weights.T

    def grain(self, strength: float) -> Map:
        """Draw noise without correlation."""
        noise = self.generator.standard_normal((self.size, self.size), dtype=np.float32)
        return noise * np.float32(strength)

    def cells(self, spacing: float, *, stretch: float = 1.0, turn: float = 0.0) -> tuple[Map, Map]:
        """Scatter cells on a jittered lattice.

        Args:
            spacing: Mean distance of neighbours.
            stretch: How much longer cells are along x than along y, before turning.
            turn: In radians.

        Returns:
            Distance from the nearest centre (unit: spacing; true up to 0.65), and a number from 0
            to 1 that belongs to that cell.
        """
        y, x = self.plain_y, self.plain_x
        if turn:
            cosine, sine = np.float32(np.cos(turn)), np.float32(np.sin(turn))
            y, x = y * cosine + x * sine, x * cosine - y * sine
        y = (y + 1.5) * np.float32(1 / spacing)
        x = (x + 1.5) * np.float32(1 / (spacing * stretch))
        count = int(3 / spacing) + 3
        jitter = self.generator.uniform(-0.35, 0.35, (2, count * count)).astype(np.float32)
        value = self.generator.random(count * count, dtype=np.float32)
        row, column = y.astype(np.int32), x.astype(np.int32)
        nearest = np.full(y.shape, 9.0, np.float32)
        owner = np.zeros(y.shape, np.float32)
        for down in (0, 1):
            for right in (0, 1):
                place = (row + down) * count + (column + right)
                dy = y - (row + down) - jitter[0].take(place)
                dx = x - (column + right) - jitter[1].take(place)
                distance = dy * dy + dx * dx
                closer = distance < nearest
                np.copyto(nearest, distance, where=closer)
                np.copyto(owner, value.take(place), where=closer)
        return np.sqrt(nearest), owner


def step(distance: Map, edge: Number) -> Map:
    """Rise from 0 to 1 where the distance passes zero."""
    return np.clip(distance * np.float32(edge) + np.float32(0.5), 0, 1)


def over(picture: Map, mask: Map, value: Number | Map) -> Map:
    """Paint a value over a picture, in place, where the mask is."""
    picture += (value - picture) * mask
    return picture


@lru_cache(maxsize=16)
def _coordinates(size: int) -> tuple[Map, Map]:
    line = ((np.arange(size, dtype=np.float32) + 0.5) * 2 / size - 1).astype(np.float32)
    y, x = (np.ascontiguousarray(part) for part in np.meshgrid(line, line, indexing="ij"))
    y.setflags(write=False)
    x.setflags(write=False)
    return y, x


@lru_cache(maxsize=128)
def _weights(size: int, count: int) -> Float[ndarray, "h n"]:
    """Interpolate smoothly (cubic step) between neighbouring lattice values."""
    place = np.linspace(0, count - 1.001, size)
    lower = place.astype(np.int64)
    rest = place - lower
    rest = rest * rest * (3 - 2 * rest)
    weights = np.zeros((size, count), np.float32)
    weights[np.arange(size), lower] = 1 - rest
    weights[np.arange(size), lower + 1] = rest
    return weights
