"""Paint the frame of a thorax: skin, fat, muscle, bones, and the table below."""

import numpy as np
from jaxtyping import Float

from medvlp.phantom.canvas import Canvas, organ_id
from medvlp.phantom.grid import Grid
from medvlp.phantom.shapes import Patch, ellipsoid, ramp, tube
from medvlp.phantom.thorax import Thorax

FAT_HU, MUSCLE_HU, BONE_HU = -100.0, 55.0, 380.0
_WALL_MM = 21.0
_RIB_PITCH_MM, _RIB_DROP_MM = 27.0, 62.0

Volume = Float[np.ndarray, "d h w"]


def paint_body(canvas: Canvas, thorax: Thorax) -> Volume:
    """Paint skin to ribs and the fat of the chest cavity.

    Returns:
        How many millimetres each voxel lies inside the chest cavity (negative outside).
    """
    inside = _cavity_depth(canvas.grid, thorax)
    _paint_outer(canvas, thorax)
    edge = canvas.grid.edge_mm
    cavity = ramp(inside.copy(), edge)
    cavity *= np.float32(FAT_HU + 10) - canvas.hu
    canvas.hu += cavity
    _paint_ribs(canvas, thorax, inside)
    _paint_sternum(canvas, thorax)
    _paint_scapulae(canvas, thorax)
    return inside


def _superellipse(
    y: Float[np.ndarray, "1 h 1"],
    x: Float[np.ndarray, "1 1 w"],
    radii: tuple[float, float],
    power: float,
) -> Float[np.ndarray, "1 h w"]:
    across = np.abs(y / radii[0]) ** power + np.abs(x / radii[1]) ** power
    return across ** np.float32(1 / power)


def _cavity_depth(grid: Grid, thorax: Thorax) -> Volume:
    z, y, x = grid.axes
    radii = thorax.cavity_radii
    mean_radius = (radii[0] + radii[1]) / 2
    rho = _superellipse(y, x, radii, 2.2) * np.float32(mean_radius)
    scale = thorax.cavity_scale(z).astype(np.float32) * np.float32(mean_radius)
    return scale - rho


def _paint_outer(canvas: Canvas, thorax: Thorax) -> None:
    z, y, x = canvas.grid.axes
    outer = _WALL_MM + thorax.fat_mm
    radii = (thorax.cavity_radii[0] + outer, thorax.cavity_radii[1] + outer)
    mean_radius = (radii[0] + radii[1]) / 2
    rho = _superellipse(y, x, radii, 2.3) * np.float32(mean_radius)
    shoulder = np.clip((z - 80) / 80, 0, 1)
    scale = (1 - 0.22 * shoulder**2) * np.float32(mean_radius)
    depth = (scale - rho).astype(np.float32)
    muscle_depth = depth - np.float32(thorax.fat_mm)
    skin = ramp(depth, canvas.grid.edge_mm)
    np.copyto(canvas.organs, np.uint8(organ_id("body")), where=skin > 0.5)
    skin *= np.float32(FAT_HU + 1000)
    canvas.hu += skin
    muscle = ramp(muscle_depth, canvas.grid.edge_mm)
    muscle *= np.float32(MUSCLE_HU - FAT_HU)
    canvas.hu += muscle
    if thorax.sex == "F":
        _paint_breasts(canvas, radii)
    _paint_table(canvas, radii[0])


def _paint_breasts(canvas: Canvas, radii: tuple[float, float]) -> None:
    for side in (-1, 1):
        center = (-5.0, -0.86 * radii[0], side * 0.5 * radii[1])
        patch = ellipsoid(canvas.grid, center, (42.0, 34.0, 42.0))
        free = canvas.hu[patch.box] < -300
        canvas.tissue(Patch(patch.box, patch.alpha * free), FAT_HU)
        canvas.organs[patch.box][(patch.alpha > 0.5) & free] = organ_id("body")


def _paint_table(canvas: Canvas, back_mm: float) -> None:
    box = canvas.grid.box((-999.0, back_mm - 12.0, -190.0), (999.0, back_mm + 25.0, 190.0))
    _, y, x = canvas.grid.cut(box)
    top = ramp(4 - np.abs(y - back_mm - 13 + 10 * (x / 180) ** 2), canvas.grid.edge_mm)
    view = canvas.hu[box]
    view += top * (view < -600) * (np.float32(-250) - view)


def _paint_ribs(canvas: Canvas, thorax: Thorax, inside: Volume) -> None:
    z, y, _ = canvas.grid.axes
    edge = canvas.grid.edge_mm
    forward = np.clip((thorax.cavity_radii[0] - y) / (2 * thorax.cavity_radii[0]), 0, 1)
    height = (z + _RIB_DROP_MM * forward**1.3) / _RIB_PITCH_MM + thorax.rib_phase
    distance = np.abs(height - np.round(height)) * _RIB_PITCH_MM
    band = np.clip(0.5 + (7 - distance) / edge, 0, 1) * (0.35 + 0.65 * (forward < 0.88))
    # no ribs above the apex, where the cavity closes, and none in the belly
    band *= np.clip((thorax.apex_z - 2 - z) / 10, 0, 1) * np.clip((z + 130) / 30, 0, 1)
    part = canvas.grid.box((-140.0, -999.0, -999.0), (thorax.apex_z, 999.0, 999.0))[0]
    shell = np.abs(inside[part] + np.float32(8))
    shell *= np.float32(-1 / edge)
    shell += np.float32(0.5 + 4.5 / edge)
    np.clip(shell, 0, 1, out=shell)
    shell *= band[part].astype(np.float32)
    np.copyto(canvas.organs[part], np.uint8(organ_id("ribs and sternum")), where=shell > 0.5)
    shell *= np.float32(BONE_HU) - canvas.hu[part]
    canvas.hu[part] += shell


def _paint_sternum(canvas: Canvas, thorax: Thorax) -> None:
    front = -thorax.cavity_radii[0] - 6
    patch = ellipsoid(canvas.grid, (15.0, front, 0.0), (72.0, 6.5, 19.0))
    canvas.tissue(patch, 190.0, "ribs and sternum")
    for side in (-1, 1):
        start = (thorax.apex_z - 22, front + 8, side * 14.0)
        end = (thorax.apex_z + 4, front + 48, side * 112.0)
        canvas.tissue(tube(canvas.grid, start, end, 6.5), 330.0, "ribs and sternum")


def _paint_scapulae(canvas: Canvas, thorax: Thorax) -> None:
    back, wide = thorax.cavity_radii
    turn = np.asarray([[1.0, 0.0, 0.0], [0.0, 0.62, 0.78], [0.0, -0.78, 0.62]])
    for side in (-1, 1):
        center = (45.0, 0.74 * back + 17, side * (0.64 * wide + 9))
        rotation = turn if side > 0 else turn * np.asarray([1, 1, -1])
        patch = ellipsoid(canvas.grid, center, (50.0, 4.5, 25.0), rotation=rotation)
        canvas.tissue(patch, 260.0, "ribs and sternum")


def paint_spine(canvas: Canvas, thorax: Thorax) -> None:
    """Paint vertebral bodies and discs, the canal and the arches behind them."""
    z, y, x = canvas.grid.axes
    back = thorax.cavity_radii[0] - 8
    box = canvas.grid.box((-999.0, back - 30.0, -40.0), (999.0, back + 65.0, 40.0))
    z, y, x = canvas.grid.cut(box)
    edge = canvas.grid.edge_mm
    y = y - (back + 5 * np.clip(z / 100, -1, 1) ** 2)
    body = ramp(17 - np.sqrt((x * 0.85) ** 2 + y**2), edge)
    height = z / 27 + thorax.rib_phase
    disc = np.clip((np.abs(height - np.round(height)) - 0.38) * 27 / edge + 0.5, 0, 1)
    arch = ramp(13 - np.sqrt(x**2 + (y - 27) ** 2), edge)
    process = ramp(np.minimum(5 - np.abs(x), 9 - np.abs(y - 40)), edge) * (1 - 0.7 * disc)
    wings = ramp(np.minimum(6 - np.abs(y - 24), 34 - np.abs(x)), edge) * (1 - disc)
    bone = np.maximum(np.maximum(body, arch), np.maximum(process, wings))
    canal = ramp(8 - np.sqrt(x**2 + (y - 25) ** 2), edge)
    canvas.tissue(Patch(box, bone.astype(np.float32)), 240.0, "spine")
    canvas.tissue(Patch(box, (body * disc).astype(np.float32)), 90.0, "spine")
    canvas.tissue(Patch(box, np.broadcast_to(canal, bone.shape).astype(np.float32)), 25.0)
