"""Paint what lies inside the chest and the top of the belly."""

from itertools import pairwise

import numpy as np
from jaxtyping import Float

from medvlp.phantom.body import FAT_HU, MUSCLE_HU, paint_body, paint_spine
from medvlp.phantom.canvas import Canvas, organ_id
from medvlp.phantom.grid import Point
from medvlp.phantom.shapes import Patch, ellipsoid, filaments, ramp, tube
from medvlp.phantom.texture import smooth_field
from medvlp.phantom.thorax import LOBES, Thorax
from medvlp.phantom.vessels import HILUM, fill_points, lung_tree

HEART_AXES = np.asarray([[0.80, -0.25, -0.55], [0.20, 0.96, -0.15], [0.56, 0.02, 0.82]])
"""Rows are the heart's own axes; its long one points to the left, front and down."""

EPICARDIAL_FAT_MM = 5.0

AORTA_PATH: tuple[Point, ...] = (
    (-8.0, -14.0, -4.0),
    (32.0, -22.0, -16.0),
    (50.0, -8.0, -6.0),
    (56.0, 14.0, 8.0),
    (46.0, 40.0, 18.0),
    (24.0, 52.0, 22.0),
    (-70.0, 54.0, 18.0),
    (-170.0, 56.0, 6.0),
)
"""Middle line of the aorta from the valve over the arch to the belly."""

CARINA: Point = (30.0, 16.0, 2.0)
_ESOPHAGUS = ((140.0, 34.0, 4.0), (40.0, 36.0, 6.0), (-60.0, 38.0, 6.0), (-92.0, 20.0, 24.0))


def paint_thorax(canvas: Canvas, thorax: Thorax) -> None:
    """Paint a whole thorax on an empty canvas, ready for findings."""
    inside = paint_body(canvas, thorax)
    _paint_lungs(canvas, thorax, inside)
    _paint_belly(canvas, thorax, inside)
    paint_spine(canvas, thorax)
    _paint_heart(canvas, thorax)
    _paint_great_vessels(canvas, thorax)
    _paint_airways(canvas)
    _paint_lung_vessels(canvas, thorax)


def _paint_lungs(canvas: Canvas, thorax: Thorax, inside: Float[np.ndarray, "d h w"]) -> None:
    z, y, x = canvas.grid.axes
    part = canvas.grid.box((-135.0, -999.0, -999.0), (thorax.apex_z + 5.0, 999.0, 999.0))[0]
    z, edge = z[part], canvas.grid.edge_mm
    depth = inside[part] - np.float32(1.5)
    half = thorax.mediastinum_half_width(z, y).astype(np.float32)
    np.minimum(depth, np.abs(x) - half, out=depth)
    np.minimum(depth, z - thorax.diaphragm_z(y, x).astype(np.float32), out=depth)
    lung = ramp(depth, edge)
    canvas.lung[part] = lung
    gradient = (np.float32(thorax.lung_hu) + np.float32(0.25) * y).astype(np.float32)
    tissue = 14 * smooth_field(canvas.grid, thorax.seed, 22.0)[part]
    tissue += gradient
    middle = int(np.searchsorted(x.ravel(), 0))
    right, left = _fissures(canvas, thorax, part)
    tissue[:, :, :middle] += right
    tissue[:, :, middle:] += left
    tissue -= canvas.hu[part]
    tissue *= lung
    canvas.hu[part] += tissue
    _mark_lobes(canvas, thorax, part, middle)


def _fissures(
    canvas: Canvas, thorax: Thorax, part: slice
) -> tuple[Float[np.ndarray, "d h 1"], Float[np.ndarray, "d h 1"]]:
    """Return the HU that the pleural folds add right and left: each is about 1 mm thick."""
    z, y, _ = canvas.grid.axes
    z, edge = z[part], canvas.grid.edge_mm
    share = np.float32(520 * 1.1 / max(edge, 1.1))
    oblique = thorax.oblique_fissure_z(y)
    main = share * np.clip(1 - np.abs(z - oblique) * 0.75 / edge, 0, 1)
    small = share * np.clip(1 - np.abs(z - thorax.horizontal_fissure_z) / edge, 0, 1)
    return np.maximum(main, small * (z > oblique)), main


def _mark_lobes(canvas: Canvas, thorax: Thorax, part: slice, middle: int) -> None:
    z, y, _ = canvas.grid.axes
    z = z[part]
    first = organ_id(LOBES[0])
    lower, low = z < thorax.oblique_fissure_z(y), z < thorax.horizontal_fissure_z
    right = np.where(lower, first + 2, np.where(low, first + 1, first)).astype(np.uint8)
    left = np.where(lower, first + 4, first + 3).astype(np.uint8)
    inside = canvas.lung[part] > 0.5
    organs = canvas.organs[part]
    np.copyto(organs[:, :, :middle], right, where=inside[:, :, :middle])
    np.copyto(organs[:, :, middle:], left, where=inside[:, :, middle:])


def _paint_belly(canvas: Canvas, thorax: Thorax, inside: Float[np.ndarray, "d h w"]) -> None:
    z, y, x = canvas.grid.axes
    part = canvas.grid.box((-999.0, -999.0, -999.0), (max(thorax.dome_z) + 8.0, 999.0, 999.0))[0]
    z, edge = z[part], canvas.grid.edge_mm
    below = thorax.diaphragm_z(y, x).astype(np.float32) - z
    below = np.minimum(below, inside[part])
    muscle = ramp(np.minimum(below, 5 - below), edge)
    box = (part, slice(None), slice(None))
    canvas.tissue(Patch(box, muscle.astype(np.float32)), MUSCLE_HU)
    below = below - 4
    liver = np.minimum(below, 40 + 0.35 * (z + 80) - x - 0.4 * np.clip(y, 0, 60))
    beside_spine = np.sqrt(x**2 + (y - 92) ** 2) - 48
    depth = ramp(np.minimum(liver, beside_spine), edge).astype(np.float32)
    canvas.tissue(Patch(box, depth), 58.0, "liver")
    clip = ramp(below.copy(), edge)
    for center, radii, hu, organ in (
        ((-92.0, 42.0, 92.0), (36.0, 38.0, 26.0), 50.0, "spleen"),
        ((-92.0, -18.0, 66.0), (34.0, 44.0, 40.0), 25.0, "stomach"),
        ((-84.0, -38.0, 62.0), (20.0, 20.0, 28.0), -930.0, "stomach"),
        ((-140.0, 44.0, 62.0), (42.0, 24.0, 25.0), 32.0, "kidneys"),
        ((-146.0, 44.0, -62.0), (42.0, 24.0, 25.0), 32.0, "kidneys"),
    ):
        patch = ellipsoid(canvas.grid, center, radii)
        rows = slice(patch.box[0].start - part.start, patch.box[0].stop - part.start)
        if patch.box[0].stop <= part.stop:
            patch = Patch(patch.box, patch.alpha * clip[rows, patch.box[1], patch.box[2]])
            canvas.tissue(patch, hu, organ)


def heart_patch(canvas: Canvas, thorax: Thorax, margin_mm: float) -> Patch:
    """Return the heart, `margin_mm` thicker than its muscle, above the diaphragm."""
    high, deep, wide = (radius + margin_mm for radius in thorax.heart_radii)
    patch = ellipsoid(canvas.grid, thorax.heart_center, (high, deep, wide), rotation=HEART_AXES)
    z, y, x = canvas.grid.cut(patch.box)
    floor = thorax.diaphragm_z(y, np.minimum(np.abs(x), 40.0)).astype(np.float32)
    above = ramp((z - (floor - margin_mm)).astype(np.float32), canvas.grid.edge_mm)
    return Patch(patch.box, patch.alpha * above)


def _paint_heart(canvas: Canvas, thorax: Thorax) -> None:
    fluid_mm = thorax.pericardial_mm
    if fluid_mm:
        canvas.tissue(heart_patch(canvas, thorax, EPICARDIAL_FAT_MM + fluid_mm), 8.0, "heart")
    canvas.tissue(heart_patch(canvas, thorax, EPICARDIAL_FAT_MM), FAT_HU + 15, "heart")
    canvas.tissue(heart_patch(canvas, thorax, 0.0), 48.0, "heart")
    if thorax.blood_hu > 100:
        canvas.tissue(heart_patch(canvas, thorax, -10.0), thorax.blood_hu)


def _paint_great_vessels(canvas: Canvas, thorax: Thorax) -> None:
    grid, blood = canvas.grid, thorax.blood_hu
    radius = thorax.aorta_radius
    for name, path, size in (
        ("mediastinum", ((95.0, -6.0, -20.0), (10.0, -8.0, -22.0)), 8.5),
        ("pulmonary artery", ((2.0, -30.0, 14.0), (22.0, 2.0, 12.0)), 13.0),
        ("pulmonary artery", ((22.0, 2.0, 10.0), (12.0, 10.0, -38.0)), 10.0),
        ("pulmonary artery", ((22.0, 2.0, 12.0), (14.0, 14.0, 38.0)), 10.0),
        ("mediastinum", ((58.0, 0.0, 2.0), (112.0, 4.0, 20.0)), 6.0),
        ("mediastinum", ((58.0, -6.0, -6.0), (112.0, -2.0, -22.0)), 6.0),
    ):
        canvas.tissue(tube(grid, path[0], path[1], size), blood, name)
    for index, (start, end) in enumerate(pairwise(AORTA_PATH)):
        first = radius * 1.2 if index < 2 else radius
        canvas.tissue(tube(grid, start, end, first, end_radius=radius), blood, "aorta")
    for start, end in pairwise(_ESOPHAGUS):
        canvas.tissue(tube(grid, start, end, 7.5), 38.0, "esophagus")


def _paint_airways(canvas: Canvas) -> None:
    grid, organ = canvas.grid, "trachea and bronchi"
    top: Point = (160.0, 12.0, 0.0)
    pieces: list[tuple[Point, Point, float]] = [(top, CARINA, 9.0)]
    for side in (-1.0, 1.0):
        hilum: Point = (HILUM[0] + 2, HILUM[1] + 4, side * (HILUM[2] + 4))
        pieces.append((CARINA, hilum, 6.8))
        pieces.append((hilum, (hilum[0] - 26, hilum[1] + 10, side * 46.0), 4.6))
        pieces.append((hilum, (hilum[0] + 20, hilum[1] - 2, side * 46.0), 4.2))
    for start, end, radius in pieces:
        canvas.tissue(tube(grid, start, end, radius + 2), 35.0)
    for start, end, radius in pieces:
        canvas.tissue(tube(grid, start, end, radius), -990.0, organ)


def _paint_lung_vessels(canvas: Canvas, thorax: Thorax) -> None:
    points, volumes = [], []
    for side in ("left", "right"):
        for branches in lung_tree(thorax.seed, side):
            where, volume = fill_points(branches, 3.0)
            points.append(where)
            volumes.append(volume)
    patch = filaments(canvas.grid, np.concatenate(points), np.concatenate(volumes))
    patch = Patch(patch.box, patch.alpha * canvas.lung[patch.box])
    view = canvas.hu[patch.box]
    view += patch.alpha * (np.float32(thorax.blood_hu) - view)
