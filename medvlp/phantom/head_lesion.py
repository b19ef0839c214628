"""What can be found in a head, and where: drawn here, painted in `head_tumours`, `head_bleeds`."""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from medvlp.phantom.grid import Point
from medvlp.phantom.head_anatomy import CAVITY_CENTER, CAVITY_RADII

LOBES: dict[str, Point] = {
    "frontal lobe": (24.0, -46.0, 32.0),
    "parietal lobe": (38.0, 34.0, 34.0),
    "temporal lobe": (-14.0, -6.0, 44.0),
    "occipital lobe": (10.0, 58.0, 26.0),
    "basal ganglia": (8.0, -6.0, 27.0),
}
"""Middles of the lobes of one half (z, y, |x|)."""

PLACES = (
    *LOBES,
    "frontal convexity",
    "parietal convexity",
    "occipital convexity",
    "both hemispheres",
    "basal cisterns",
    "sylvian fissure",
    "lateral ventricle",
    "lateral ventricles",
)
"""All words for where a finding is, but for its side."""

TUMOURS = ("glioma", "meningioma", "metastasis")
BLEEDS = ("intraparenchymal", "intraventricular", "subarachnoid", "subdural", "epidural")


@dataclass(frozen=True)
class HeadLesion:
    """One finding, as drawn; painting it needs no further chance.

    Attributes:
        kind: Of `head_canvas.FINDINGS`.
        side: left, right or bilateral.
        place: Words for where it is.
        size_mm: Its largest extent in the standard head.
        points: Middles of its parts (z, y, x) in the standard head.
        radii: Of its parts.
        seed: Of its texture.
        old: Whether it is chronic.
    """

    kind: str
    side: str
    place: str
    size_mm: float
    points: Float[np.ndarray, "n 3"]
    radii: Float[np.ndarray, " n"] = field(default_factory=lambda: np.zeros(0))
    seed: int = 0
    old: bool = False

    @property
    def sign(self) -> float:
        """Return 1 on the left, -1 on the right; the left half lies at positive x."""
        return -1.0 if self.side == "right" else 1.0


def sample_lesion(
    kind: str, rng: np.random.Generator, *, side: str | None = None, size: float = 1.0
) -> HeadLesion:
    """Draw a finding of a kind.

    Args:
        kind: Of `head_canvas.FINDINGS` (edema comes by itself).
        rng: Source of chance.
        side: left or right; None draws it.
        size: Factor on its extent.

    Raises:
        ValueError: If nothing is known of the kind.
    """
    side = side or ("left", "right")[int(rng.integers(2))]
    sampler = {
        "metastasis": _metastases,
        "meningioma": _on_the_surface,
        "subdural": _on_the_surface,
        "epidural": _on_the_surface,
        "fracture": _on_the_surface,
        "subarachnoid": _in_the_cisterns,
        "intraventricular": _in_the_ventricles,
    }.get(kind, _in_a_lobe)
    if kind not in _RADIUS_MM:
        raise ValueError(f"{kind!r} cannot be drawn by itself; known: {', '.join(_RADIUS_MM)}")
    low, high = _RADIUS_MM[kind]
    return sampler(kind, rng, side, size * float(rng.uniform(low, high)))


_RADIUS_MM = {
    "stroke": (19.0, 28.0),
    "glioma": (16.0, 25.0),
    "meningioma": (15.0, 23.0),
    "metastasis": (5.0, 9.0),
    "cyst": (13.0, 20.0),
    "intraparenchymal": (12.0, 22.0),
    "intraventricular": (6.0, 9.0),
    "subarachnoid": (30.0, 45.0),
    "subdural": (7.0, 17.0),  # thickness of the crescent
    "epidural": (24.0, 36.0),
    "fracture": (26.0, 40.0),  # half its length
}


def _in_a_lobe(kind: str, rng: np.random.Generator, side: str, radius: float) -> HeadLesion:
    places = list(LOBES)
    if kind == "cyst":
        places = ["temporal lobe"]
    place = places[int(rng.integers(len(places) - (kind == "glioma")))]
    z, y, x = np.asarray(LOBES[place]) + rng.uniform(-5, 5, 3)
    sign = -1.0 if side == "right" else 1.0
    middle = np.asarray([z, y, sign * x])
    count = 1 if kind == "cyst" else 4
    spread = rng.normal(0, 0.42 * radius, (count, 3)) * np.asarray([0.8, 1.2, 0.8])
    spread[0] = 0
    return HeadLesion(
        kind,
        side,
        f"{side} {place}",
        2 * radius,
        middle + spread,
        radius * rng.uniform(0.55, 0.8, count) if count > 1 else np.asarray([radius]),
        seed=int(rng.integers(2**31)),
    )


def _metastases(kind: str, rng: np.random.Generator, side: str, radius: float) -> HeadLesion:
    count = int(rng.integers(4, 8))
    names = list(LOBES)
    points = []
    for number in range(count):
        z, y, x = np.asarray(LOBES[names[number % len(names)]]) + rng.uniform(-9, 9, 3)
        half = (-1.0 if side == "right" else 1.0) * (-1.0 if number % 2 else 1.0)
        points.append((z, y, half * x))
    radii = radius * rng.uniform(0.7, 1.2, count)
    return HeadLesion(
        kind,
        "bilateral",
        "both hemispheres",
        2 * float(radii.max()),
        np.asarray(points),
        radii,
        seed=int(rng.integers(2**31)),
    )


def _on_the_surface(kind: str, rng: np.random.Generator, side: str, radius: float) -> HeadLesion:
    elevation = rng.uniform(0.15, 0.8)
    azimuth = rng.uniform(-0.9, 0.9)
    sign = -1.0 if side == "right" else 1.0
    direction = np.asarray(
        [
            np.sin(elevation),
            np.cos(elevation) * np.sin(azimuth),
            sign * np.cos(elevation) * np.cos(azimuth),
        ]
    )
    surface = np.asarray(CAVITY_CENTER) + direction / np.linalg.norm(
        direction / np.asarray(CAVITY_RADII)
    )
    region = "frontal" if azimuth < -0.3 else "parietal" if azimuth < 0.5 else "occipital"
    return HeadLesion(
        kind,
        side,
        f"{side} {region} convexity",
        radius if kind == "subdural" else 2 * radius,
        surface[None],
        np.asarray([radius]),
        seed=int(rng.integers(2**31)),
        old=kind == "subdural" and bool(rng.random() < 0.3),
    )


def _in_the_cisterns(kind: str, rng: np.random.Generator, side: str, radius: float) -> HeadLesion:
    sign = -1.0 if side == "right" else 1.0
    points = np.asarray([(-16.0, -14.0, 0.0), (-4.0, -10.0, sign * 46.0)])
    return HeadLesion(
        kind, side, f"basal cisterns and {side} sylvian fissure", radius, points, np.full(2, radius)
    )


def _in_the_ventricles(kind: str, rng: np.random.Generator, side: str, radius: float) -> HeadLesion:
    both = rng.random() < 0.4
    name = "both lateral ventricles" if both else f"the {side} lateral ventricle"
    return HeadLesion(
        kind, "bilateral" if both else side, name, 4 * radius, np.zeros((1, 3)), np.zeros(1)
    )
