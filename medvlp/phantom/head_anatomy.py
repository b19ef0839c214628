"""One person's head as numbers, and its painting: skull, brain, ventricles, eyes."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Float

from medvlp.phantom.grid import Point
from medvlp.phantom.head_canvas import HeadCanvas
from medvlp.phantom.shapes import Patch, ellipsoid, ramp, tube
from medvlp.phantom.texture import smooth_field

CAVITY_RADII: Point = (70.0, 84.0, 66.0)
"""Half axes of the inner skull in the standard head (z, y, x), around `CAVITY_CENTER`."""

CAVITY_CENTER: Point = (4.0, 0.0, 0.0)
SKULL_MM, SCALP_MM = 7.0, 7.0

_LATERAL = (
    (10.0, -34.0, 9.0),
    (22.0, -14.0, 11.0),
    (26.0, 8.0, 13.0),
    (16.0, 32.0, 24.0),
    (6.0, 54.0, 22.0),
)
"""Middle line of a lateral ventricle from the front horn to the back horn (z, y, |x|)."""

_TEMPORAL_HORN = ((16.0, 32.0, 24.0), (-14.0, 12.0, 33.0))

Volume = Float[np.ndarray, "d h w"]


@dataclass(frozen=True)
class Head:
    """One person's anatomy, in millimetres of the standard head (z up, y to the back, x left).

    Attributes:
        sex: M or F.
        age: In years.
        scale: How much larger this head is than the standard one along z, y, x.
        ventricle_mm: Radius of the lateral ventricles.
        gap_mm: Width of the fluid around the brain.
        cortex_mm: Thickness of the grey ribbon.
        shift_mm: How far the midline is pushed to the left (negative: right).
        seed: Of folds and fine texture.
    """

    sex: str
    age: int
    scale: Point
    ventricle_mm: float
    gap_mm: float
    cortex_mm: float
    seed: int
    shift_mm: float = 0.0

    def midline(
        self, z: Float[np.ndarray, "..."], y: Float[np.ndarray, "..."]
    ) -> Float[np.ndarray, "..."]:
        """Return where the middle of the brain lies: held at front, back and top by the falx."""
        bulge = np.clip(1 - (y / 80) ** 2, 0, 1) * np.clip((66 - z) / 50, 0, 1)
        return np.float32(self.shift_mm) * bulge


def sample_head(rng: np.random.Generator) -> Head:
    """Draw a person."""
    size = rng.normal(1.0, 0.03)
    age = int(rng.integers(18, 92))
    old = max(0, age - 50) / 40
    return Head(
        sex="F" if rng.random() < 0.5 else "M",
        age=age,
        scale=tuple(np.clip(size * rng.normal(1.0, 0.02, 3), 0.9, 1.1).tolist()),
        ventricle_mm=float(rng.uniform(5.0, 7.0) + 2.0 * old),
        gap_mm=float(rng.uniform(1.8, 2.6) + 1.5 * old),
        cortex_mm=float(rng.uniform(5.0, 6.5)),
        seed=int(rng.integers(2**31)),
    )


def paint_head(canvas: HeadCanvas, head: Head) -> None:
    """Paint a whole head on an empty canvas, ready for findings."""
    z, y, x = canvas.grid.axes
    terms = [
        ((axis - np.float32(middle)) / np.float32(radius)) ** 2
        for axis, middle, radius in zip((z, y, x), CAVITY_CENTER, CAVITY_RADII, strict=True)
    ]
    mean_radius = np.float32(np.prod(CAVITY_RADII) ** (1 / 3))
    vault = (1 - np.sqrt(terms[0] + terms[1] + terms[2])) * mean_radius
    base = (-42 - 14 * np.tanh((y + 5) / 30)).astype(np.float32)
    np.minimum(vault, z - base, out=canvas.inside)
    _paint_face(canvas)
    _paint_skull(canvas, vault, z - base)
    _paint_brain(canvas, head)
    _paint_ventricles(canvas, head)
    _paint_eyes(canvas)


def _paint_face(canvas: HeadCanvas) -> None:
    for center, radii, tissue in (
        ((-72.0, -42.0, 0.0), (52.0, 48.0, 62.0), "fat"),
        ((-72.0, -40.0, 0.0), (47.0, 43.0, 56.0), "muscle"),
        ((-95.0, 30.0, 0.0), (60.0, 50.0, 58.0), "fat"),
        ((-95.0, 30.0, 0.0), (56.0, 46.0, 53.0), "muscle"),
    ):
        canvas.tissue(ellipsoid(canvas.grid, center, radii), tissue, "scalp and face")
    canvas.tissue(tube(canvas.grid, (-70.0, 40.0, 0.0), (-120.0, 44.0, 0.0), 17.0), "bone", "skull")
    canvas.tissue(tube(canvas.grid, (-40.0, 32.0, 0.0), (-120.0, 44.0, 0.0), 8.0), "csf")
    for side in (-1.0, 1.0):  # nose and maxillary sinuses
        canvas.tissue(ellipsoid(canvas.grid, (-62.0, -55.0, side * 22), (16.0, 15.0, 12.0)), "air")
        canvas.tissue(ellipsoid(canvas.grid, (-48.0, 30.0, side * 50), (8.0, 12.0, 8.0)), "bone")
    canvas.tissue(ellipsoid(canvas.grid, (-60.0, -55.0, 0.0), (20.0, 28.0, 6.0)), "air")


def _paint_skull(canvas: HeadCanvas, vault: Volume, above: Float[np.ndarray, "d h 1"]) -> None:
    edge, whole = canvas.grid.edge_mm, canvas.whole
    shell = np.minimum(vault + np.float32(SKULL_MM), above + np.float32(5))
    scalp = np.minimum(vault + np.float32(SKULL_MM + SCALP_MM), above + np.float32(8))
    canvas.tissue(Patch(whole, ramp(scalp, edge)), "fat", "scalp and face")
    canvas.tissue(Patch(whole, ramp(shell.copy(), edge)), "bone", "skull")
    diploe = np.float32(1.4) - np.abs(vault + np.float32(SKULL_MM / 2))
    diploe = np.minimum(diploe, above)
    canvas.tissue(Patch(whole, ramp(diploe, edge)), "marrow")
    canvas.tissue(Patch(whole, ramp(canvas.inside.copy(), edge)), "csf", "cerebrospinal fluid")


def _paint_brain(canvas: HeadCanvas, head: Head) -> None:
    grid, edge, whole = canvas.grid, canvas.grid.edge_mm, canvas.whole
    z, y, x = grid.axes
    depth = canvas.inside - np.float32(head.gap_mm)
    np.minimum(depth, np.maximum(z + 14, 6 - y), out=depth)  # above the tentorium
    side = np.abs(x - head.midline(z, y)).astype(np.float32)
    # the halves are parted but for the corpus callosum and what lies below it
    joined = np.maximum(34 - np.abs(y + 2), 0) + np.minimum(26 - z, 0)
    np.minimum(depth, np.maximum(side - 1.2, joined), out=depth)
    folds = smooth_field(grid, head.seed, 13.0)
    np.abs(folds, out=folds)
    cerebrum = ramp(depth.copy(), edge)
    sulci = np.clip(np.float32(1) - 3.2 * folds, 0, 1) * np.clip((9 - depth) / 5, 0, 1)
    cerebrum *= 1 - np.float32(0.75) * sulci
    canvas.tissue(Patch(whole, cerebrum), "grey", "grey matter")
    white = depth - np.float32(head.cortex_mm) - 3 * np.clip(1.2 - folds, 0, 1)
    white = ramp(white, edge)
    canvas.tissue(Patch(whole, white), "white", "white matter")
    np.maximum(canvas.brain, cerebrum, out=canvas.brain)
    for sign in (-1.0, 1.0):
        for center, radii in (
            ((6.0, 10.0, sign * 11.0), (9.0, 14.0, 8.0)),
            ((6.0, -8.0, sign * 25.0), (11.0, 18.0, 7.0)),
        ):
            moved = (center[0], center[1], center[2] + 0.9 * _shift_at(head, center))
            canvas.tissue(ellipsoid(grid, moved, radii), "deep grey", "deep grey matter")
    cerebellum = canvas.clipped(
        ellipsoid(grid, (-34.0, 44.0, 0.0), (24.0, 36.0, 54.0)), ramp(canvas.inside - 1, edge)
    )
    _add_part(canvas, cerebellum, "grey", "cerebellum")
    core = ellipsoid(grid, (-36.0, 42.0, 0.0), (12.0, 18.0, 30.0))
    canvas.tissue(canvas.clipped(core, canvas.brain), "white")
    stem = tube(grid, (-8.0, 12.0, 0.0), (-72.0, 34.0, 0.0), 13.0, end_radius=7.0)
    _add_part(canvas, stem, "white", "brain stem")
    falx = ramp(np.minimum(canvas.inside, 1.0 - np.abs(x + 0 * z)), edge)
    falx *= (z > 24) | (y < -40) | ((y > 44) & (z > -10))
    canvas.tissue(Patch(whole, np.float32(0.6) * falx), "dura")


def _add_part(canvas: HeadCanvas, patch: Patch, tissue: str, organ: str) -> None:
    canvas.tissue(patch, tissue, organ)
    part = canvas.brain[patch.box]
    np.maximum(part, patch.alpha, out=part)


def _shift_at(head: Head, point: Point) -> float:
    return float(head.midline(np.asarray([point[0]]), np.asarray([point[1]]))[0])


def ventricle_patches(canvas: HeadCanvas, head: Head) -> list[Patch]:
    """Return the parts of the ventricles: pushed over by a shift, thinner on the side of it."""
    patches: list[Patch] = []
    for sign in (-1.0, 1.0):
        # the half that pushes is squeezed: it lies opposite to the direction of the shift
        squeeze = 1 - 0.06 * max(0.0, -sign * head.shift_mm)
        radius = max(1.5, head.ventricle_mm * squeeze)
        points: list[Point] = []
        for z, y, x in _LATERAL:
            place = (z, y, sign * x)
            points.append((z, y, sign * x + _shift_at(head, place)))
        for number, (start, end) in enumerate(pairwise(points)):
            width = radius * (1.0, 1.05, 1.1, 0.9)[number]
            patches.append(tube(canvas.grid, start, end, width))
        first, last = ((z, y, sign * x) for z, y, x in _TEMPORAL_HORN)
        patches.append(tube(canvas.grid, first, last, 0.6 * radius))
    middle = 0.8 * head.shift_mm
    patches.append(ellipsoid(canvas.grid, (2.0, 2.0, middle), (12.0, 16.0, 3.0)))
    patches.append(ellipsoid(canvas.grid, (-34.0, 30.0, 0.0), (9.0, 6.0, 7.0)))
    return patches


def _paint_ventricles(canvas: HeadCanvas, head: Head) -> None:
    for patch in ventricle_patches(canvas, head):
        canvas.tissue(patch, "csf", "ventricles")
        for share in (canvas.ventricles, canvas.brain):
            part = share[patch.box]
            np.maximum(part, patch.alpha, out=part)


def _paint_eyes(canvas: HeadCanvas) -> None:
    for side in (-1.0, 1.0):
        center = (-34.0, -74.0, side * 31.0)
        orbit = ellipsoid(canvas.grid, (-34.0, -66.0, side * 30), (17.0, 22.0, 17.0))
        outside = ramp(-canvas.inside[orbit.box] - 1, canvas.grid.edge_mm)
        canvas.tissue(Patch(orbit.box, orbit.alpha * outside), "fat", "scalp and face")
        canvas.tissue(ellipsoid(canvas.grid, center, (12.5, 12.5, 12.5)), "vitreous", "eyes")
