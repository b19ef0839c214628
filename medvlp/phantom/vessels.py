"""The branching of vessels and bronchi through the lungs."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float

_NUM_GENERATIONS = 6
_TRUNKS = (
    # direction (up, back, out) and share of the lung each trunk feeds
    (0.95, -0.15, 0.45),
    (0.75, 0.45, 0.55),
    (-0.35, -0.7, 0.7),
    (-0.6, 0.1, 0.75),
    (-0.75, 0.6, 0.4),
)
HILUM = (4.0, 8.0, 30.0)
"""Where the vessels of the left lung begin (z, y, x); the right side mirrors x."""


@dataclass(frozen=True)
class Branches:
    """Straight pieces of one generation of a tree.

    Attributes:
        start: First points (z, y, x) in mm.
        end: Last points.
        radius: In mm.
    """

    start: Float[np.ndarray, "n 3"]
    end: Float[np.ndarray, "n 3"]
    radius: float


@lru_cache(maxsize=8)
def lung_tree(seed: int, side: str) -> tuple[Branches, ...]:
    """Grow the tree of one lung, one `Branches` per generation, thick ones first."""
    rng = np.random.default_rng((seed, side == "left"))
    heading = np.asarray(_TRUNKS) + 0.12 * rng.standard_normal((len(_TRUNKS), 3))
    start = np.tile(np.asarray(HILUM), (len(_TRUNKS), 1))
    length, radius = 30.0, 5.0
    generations = []
    for _ in range(_NUM_GENERATIONS):
        heading /= np.linalg.norm(heading, axis=1, keepdims=True)
        reach = length * rng.uniform(0.75, 1.25, (len(start), 1))
        end = start + heading * reach
        generations.append(Branches(start, end, radius))
        turn = 0.62 * rng.standard_normal(heading.shape)
        heading = np.concatenate([heading + turn, heading - turn])
        start = np.concatenate([end, end])
        length, radius = length * 0.84, radius * 0.74
    if side == "left":
        return tuple(generations)
    flip = np.asarray([1.0, 1.0, -1.0])
    return tuple(Branches(b.start * flip, b.end * flip, b.radius) for b in generations)


def fill_points(
    branches: Branches, step_mm: float, inner_radius: float = 0.0
) -> tuple[Float[np.ndarray, "n 3"], Float[np.ndarray, " n"]]:
    """Return points spread through tubes, and the volume that each of them stands for.

    Args:
        branches: The tubes.
        step_mm: Distance of the points along a tube.
        inner_radius: Radius of a hollow core that stays empty.
    """
    vector = branches.end - branches.start
    length = np.linalg.norm(vector, axis=1)
    along = (np.arange(0, length.max(), step_mm) + step_mm / 2)[None, :] / length[:, None]
    rows, columns = np.nonzero(along <= 1)
    points = branches.start[rows] + vector[rows] * along[rows, columns][:, None]
    area = np.pi * (branches.radius**2 - inner_radius**2)
    if branches.radius < step_mm:
        return points, np.full(len(points), area * step_mm)
    # a thick tube gets six lines around its middle instead of one
    angle = np.arange(6) * (np.pi / 3) + 0.3
    ring = 0.5 * (branches.radius + inner_radius) * np.stack([np.cos(angle), np.sin(angle)])
    first = np.cross(vector, [0.36, 0.48, 0.8])
    first /= np.linalg.norm(first, axis=1, keepdims=True) + 1e-9
    second = np.cross(first, vector / length[:, None])
    offsets = ring[0][:, None] * first[:, None, :] + ring[1][:, None] * second[:, None, :]
    points = (points[:, None, :] + offsets[rows]).reshape(-1, 3)
    return points, np.full(len(points), area * step_mm / 6)
