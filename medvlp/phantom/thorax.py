"""The thorax as numbers: where its parts lie in one person, and where in a lung a point can be."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from medvlp.phantom.grid import Point

LOBES = (
    "right upper lobe",
    "right middle lobe",
    "right lower lobe",
    "left upper lobe",
    "left lower lobe",
)

PARTS = ("upper", "middle", "lower")

_PART_HEIGHT_MM = {"upper": (18.0, 72.0), "middle": (-38.0, -14.0), "lower": (-42.0, 0.0)}
_PART_DEPTH_MM = {"upper": (-35.0, 25.0), "middle": (-50.0, -25.0), "lower": (20.0, 58.0)}

Array = Float[np.ndarray, "..."]


@dataclass(frozen=True)
class Thorax:
    """One person's anatomy, in millimetres of the standard body.

    z points to the head, y to the back, x to the left; the origin is the middle of the chest.

    Attributes:
        sex: M or F.
        scale: How much larger this person is than the standard body along z, y, x.
        fat_mm: Thickness of the layer under the skin.
        cavity_radii: Half axes of the chest cavity (y, x).
        apex_z: Top of the lungs.
        dome_z: Tops of the diaphragm, right then left.
        heart_center: Middle of the heart.
        heart_radii: Half axes of the heart along its own axes.
        aorta_radius: Of the descending part.
        lung_hu: Mean of the lung tissue.
        blood_hu: Of heart and vessels; above 100 when contrast medium was given.
        rib_phase: Place of the first rib, as a share of the distance between ribs.
        seed: Of the branches of the vessels and of fine texture.
        pericardial_mm: Thickness of the fluid around the heart.
    """

    sex: str
    scale: Point
    fat_mm: float
    cavity_radii: tuple[float, float]
    apex_z: float
    dome_z: tuple[float, float]
    heart_center: Point
    heart_radii: Point
    aorta_radius: float
    lung_hu: float
    blood_hu: float
    rib_phase: float
    seed: int
    pericardial_mm: float = 0.0

    def cavity_scale(self, z: Array) -> Array:
        """Return the width of the chest cavity at a height, relative to its widest place."""
        up = np.clip(z / self.apex_z, 0, 1)
        return (1 - up**3.2) ** (1 / 2.2) - 0.02 * np.clip(-z / 100, 0, 1)

    def mediastinum_half_width(self, z: Array, y: Array) -> Array:
        """Return half the distance between the lungs: narrow in front, wide at the hila."""
        front = np.clip((y + 68) / 40, 0, 1)
        upper = np.clip((z - 30) / 40, 0, 1)
        return 6 + 15 * front + 3 * upper * front + 2 * np.clip((y - 45) / 20, 0, 1)

    def diaphragm_z(self, y: Array, x: Array) -> Array:
        """Return the height of the diaphragm: two domes that fall off to the sides and back."""
        side = np.where(x < 0, self.dome_z[0], self.dome_z[1])
        across = (np.abs(x) - 66) / 72
        along = (y + 14) / 80
        return side - 26 * across**2 - np.where(along > 0, 42, 22) * along**2

    def lung_span(self, side: str, z: float, y: float) -> tuple[float, float]:
        """Return how far from the midline a lung begins and ends at a height and depth."""
        height, depth = np.asarray([z]), np.asarray([y])
        inner = float(self.mediastinum_half_width(height, depth)[0])
        if side == "left":
            inner = max(inner, self._heart_edge(z, y))
        radius_y, radius_x = (r * float(self.cavity_scale(height)[0]) for r in self.cavity_radii)
        outer = radius_x * (1 - min(abs(y / radius_y), 0.98) ** 2.2) ** (1 / 2.2)
        return inner, max(outer - 3, inner + 4)

    def _heart_edge(self, z: float, y: float) -> float:
        up, back, left = self.heart_center
        high, deep, wide = (radius + 5 + self.pericardial_mm for radius in self.heart_radii)
        reach = 1 - ((z - up) / high) ** 2 - ((y - back) / deep) ** 2
        return left + wide * reach**0.5 if reach > 0 else 0.0

    def lung_point(self, side: str, z: float, y: float, lateral: float) -> Point:
        """Return a point inside a lung.

        Args:
            side: left or right.
            z: Height.
            y: Depth.
            lateral: 0 at the mediastinum, 1 at the ribs.
        """
        inner, outer = self.lung_span(side, z, y)
        x = inner + lateral * (outer - inner)
        return z, y, x if side == "left" else -x

    def lobe_point(self, side: str, part: str, rng: np.random.Generator) -> Point:
        """Draw a point well inside the upper, middle or lower part of a lung."""
        z = float(rng.uniform(*_PART_HEIGHT_MM[part]))
        y = float(rng.uniform(*_PART_DEPTH_MM[part]))
        return self.lung_point(side, z, y, float(rng.uniform(0.35, 0.7)))

    def oblique_fissure_z(self, y: Array) -> Array:
        """Return the height of the oblique fissure; the lower lobe lies below it."""
        return -17 + 0.88 * y

    @property
    def horizontal_fissure_z(self) -> float:
        """Return the height of the right lung's horizontal fissure."""
        return -4.0


def sample_thorax(rng: np.random.Generator) -> Thorax:
    """Draw one person; every size varies by a few per cent."""

    def about(value: float, spread: float) -> float:
        return float(value * (1 + spread * np.clip(rng.standard_normal(), -2, 2)))

    sex = "F" if rng.random() < 0.42 else "M"
    build = about(0.95 if sex == "F" else 1.03, 0.035)
    apex, dome = about(116.0, 0.02), about(-44.0, 0.06)
    heart = about(1.0, 0.035)
    contrast = rng.random() < 0.15
    return Thorax(
        sex=sex,
        scale=(about(build, 0.025), about(build, 0.03), about(build, 0.025)),
        fat_mm=float(rng.uniform(8, 22)),
        cavity_radii=(about(90.0, 0.03), about(132.0, 0.02)),
        apex_z=apex,
        dome_z=(dome, dome - float(rng.uniform(6, 14))),
        heart_center=(about(-38.0, 0.06), about(-24.0, 0.08), about(20.0, 0.12)),
        heart_radii=(
            about(46.0, 0.03) * heart,
            about(41.0, 0.03) * heart,
            about(56.0, 0.03) * heart,
        ),
        aorta_radius=about(12.0, 0.06),
        lung_hu=float(rng.uniform(-875, -835)),
        blood_hu=float(rng.uniform(140, 220)) if contrast else float(rng.uniform(36, 50)),
        rib_phase=float(rng.random()),
        seed=int(rng.integers(2**31)),
    )


def lobe_name(side: str, part: str) -> str:
    """Return the lobe that holds a part of a lung; the left lung has no middle lobe."""
    return f"{side} {'upper' if side == 'left' and part == 'middle' else part} lobe"
