"""A body from the crown to the thighs, of simple shapes: one and the same on CT and PET.

Millimetres towards the head, the back and the patient's left (z, y, x); z is 0 at the diaphragm.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, UInt8

from medvlp.phantom.grid import Grid, Point
from medvlp.phantom.shapes import Patch, ellipsoid, tube

ORGANS = (
    "background",
    "body",
    "skull",
    "brain",
    "right lung",
    "left lung",
    "heart",
    "liver",
    "spleen",
    "stomach",
    "right kidney",
    "left kidney",
    "bladder",
    "spine",
    "pelvis",
    "right thigh bone",
    "left thigh bone",
)
"""Organ names; the id in the masks is the place in this tuple."""

Number = int | float
Triple = tuple[Number, Number, Number]

TOP_MM, BOTTOM_MM = 575.0, -465.0
"""What of the body a scan shows."""


@dataclass(frozen=True)
class Structure:
    """Something with one density and one uptake.

    Attributes:
        organ: Name in `ORGANS`; empty leaves the organ ids as they are.
        hu: On CT.
        suv: On PET.
        center: Of an ellipsoid, or the start of a tube.
        radii: Of an ellipsoid; a tube has the first.
        end: Of a tube; None makes an ellipsoid.
    """

    organ: str
    hu: float
    suv: float
    center: Point
    radii: Point
    end: Point | None = None

    def patch(self, grid: Grid) -> Patch:
        """Fill its shape."""
        if self.end is None:
            return ellipsoid(grid, self.center, self.radii)
        return tube(grid, self.center, self.end, self.radii[0])


@dataclass(frozen=True)
class WholeBody:
    """One person.

    Attributes:
        scale: Size along z, y, x against the standard body.
        structures: In the order of painting.
        sex: "F" or "M".
        age: In years.
    """

    scale: Point
    structures: tuple[Structure, ...]
    sex: str
    age: int


def sample_body(rng: np.random.Generator) -> WholeBody:
    """Draw a person: size, place and radius of organs within a few percent, uptake within more."""
    sex = "FM"[int(rng.integers(2))]
    size = rng.normal(1.0 if sex == "M" else 0.95, 0.02, size=3).clip(0.88, 1.06)
    structures = tuple(_varied(part, rng) for part in _standard_body(rng))
    scale: Point = (float(size[0]), float(size[1]), float(size[2]))
    return WholeBody(scale, structures, sex, int(rng.integers(25, 88)))


def paint(
    body: WholeBody, grid: Grid, quantity: str
) -> tuple[Float[np.ndarray, "d h w"], UInt8[np.ndarray, "d h w"]]:
    """Paint a body.

    Args:
        body: Whom.
        grid: Where; in patient millimetres.
        quantity: "hu" or "suv".

    Returns:
        Values (air around is -1000 HU or an uptake of 0) and organ ids.
    """
    inner = grid.scaled(body.scale)
    values = np.full(grid.shape, -1000.0 if quantity == "hu" else 0.0, dtype=np.float32)
    organs = np.zeros(grid.shape, dtype=np.uint8)
    for part in body.structures:
        patch = part.patch(inner)
        blend(values, patch, float(getattr(part, quantity)))
        if part.organ:
            organs[patch.box][patch.alpha > 0.5] = ORGANS.index(part.organ)
    return values, organs


def blend(values: Float[np.ndarray, "d h w"], patch: Patch, value: float) -> None:
    """Paint a value over what is there, in place."""
    view = values[patch.box]
    view += (np.float32(value) - view) * patch.alpha


def _standard_body(rng: np.random.Generator) -> list[Structure]:
    """List the standard body from the outside in; the uptake of some organs differs a lot."""
    heart, kidney, bladder = (float(rng.uniform(*ends)) for ends in ((1.5, 9), (3, 7), (10, 35)))
    parts: list[Structure] = []
    for shrink, hu, suv in ((0.0, -95.0, 0.3), (14.0, 48.0, 0.7)):  # fat, then muscle
        parts += _outline(shrink, hu, suv)
    for side in (1.0, -1.0):
        lung = "left lung" if side > 0 else "right lung"
        parts.append(_ellipsoid(lung, -850, 0.4, (185, 2, side * 78), (112, 78, 60)))
    parts += [
        _ellipsoid("liver", 62, 2.2, (28, -8, -72), (62, 72, 82)),
        _ellipsoid("spleen", 52, 1.9, (40, 48, 98), (48, 34, 26)),
        _ellipsoid("stomach", 35, 1.6, (30, -38, 62), (42, 36, 34)),
        _ellipsoid("heart", 42, heart, (122, -34, 26), (50, 46, 54)),
        _ellipsoid("left kidney", 36, kidney, (-42, 58, 64), (54, 27, 28)),
        _ellipsoid("right kidney", 36, kidney, (-50, 58, -64), (54, 27, 28)),
        _ellipsoid("bladder", 8, bladder, (-238, -22, 0), (34, 34, 38)),
        _tube("spine", 230, 1.4, (345, 34, 0), (-215, 52, 0), 21),
    ]
    for side in (1.0, -1.0):
        bone = "left thigh bone" if side > 0 else "right thigh bone"
        parts += [
            _ellipsoid("pelvis", 330, 1.2, (-185, 26, side * 92), (74, 46, 25)),
            _tube(bone, 480, 0.9, (-262, 8, side * 100), (-520, 4, side * 86), 16),
        ]
    return [
        *parts,
        _ellipsoid("skull", 820, 0.8, (480, -4, 0), (94, 98, 78)),
        _ellipsoid("brain", 34, 9.5, (482, -4, 0), (85, 89, 69)),
    ]


def _outline(shrink: float, hu: float, suv: float) -> list[Structure]:
    """Fill trunk, neck, head, arms and thighs, each thinner by `shrink`."""
    round_parts: tuple[tuple[Point, Point], ...] = (
        ((150.0, 0.0, 0.0), (225.0, 122.0, 178.0)),
        ((-40.0, 4.0, 0.0), (250.0, 116.0, 164.0)),
        ((-190.0, 12.0, 0.0), (120.0, 118.0, 176.0)),
        ((470.0, -4.0, 0.0), (106.0, 104.0, 84.0)),
    )
    parts = [
        _ellipsoid("body", hu, suv, center, (a - shrink, b - shrink, c - shrink))
        for center, (a, b, c) in round_parts
    ]
    parts.append(_tube("body", hu, suv, (300, 20, 0), (420, 8, 0), 62 - shrink))
    for side in (1.0, -1.0):
        thigh: Point = (-520.0, 2.0, side * 88.0)
        parts.append(_tube("body", hu, suv, (-240, 8, side * 92), thigh, 84 - shrink))
        shoulder: Point = (288.0, 14.0, side * 150.0)
        parts.append(_tube("body", hu, suv, shoulder, (130, 22, side * 205), 46 - shrink))
    return parts


def _varied(part: Structure, rng: np.random.Generator) -> Structure:
    """Shift by up to 4 mm, resize by up to 5 %, and vary the uptake by up to 15 %."""
    if part.organ in ("", "body", "skull", "spine"):
        return part
    move, stretch = rng.uniform(-4, 4, size=3), float(rng.uniform(0.95, 1.05))
    end = None if part.end is None else _moved(part.end, move)
    radii = (part.radii[0] * stretch, part.radii[1] * stretch, part.radii[2] * stretch)
    suv = part.suv * float(rng.uniform(0.85, 1.15))
    return replace(part, center=_moved(part.center, move), end=end, radii=radii, suv=suv)


def _ellipsoid(organ: str, hu: Number, suv: Number, center: Triple, radii: Triple) -> Structure:
    return Structure(organ, float(hu), float(suv), _floats(center), _floats(radii))


def _tube(
    organ: str, hu: Number, suv: Number, center: Triple, end: Triple, radius: Number
) -> Structure:
    radii = _floats((radius, radius, radius))
    return Structure(organ, float(hu), float(suv), _floats(center), radii, _floats(end))


def _floats(point: Triple) -> Point:
    return float(point[0]), float(point[1]), float(point[2])


def _moved(point: Point, by: Float[np.ndarray, "3"]) -> Point:
    z, y, x = (float(value + step) for value, step in zip(point, by, strict=True))
    return z, y, x
