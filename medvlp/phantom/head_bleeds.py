"""Paint blood where it gathers in a head, and breaks of the skull."""

import numpy as np

from medvlp.phantom.head_anatomy import CAVITY_CENTER, SKULL_MM, Head, ventricle_patches
from medvlp.phantom.head_canvas import HeadCanvas
from medvlp.phantom.head_lesion import HeadLesion
from medvlp.phantom.shapes import Patch, metaballs, ramp


def paint_intraparenchymal(canvas: HeadCanvas, head: Head, lesion: HeadLesion) -> None:
    """Paint a clot in the brain with a dark seam of edema."""
    tissue = np.minimum(2 * canvas.brain, 1)
    around = metaballs(canvas.grid, lesion.points, 1.15 * lesion.radii + 2)
    canvas.finding(canvas.clipped(around, tissue), "edema", "edema")
    clot = metaballs(canvas.grid, lesion.points, lesion.radii)
    canvas.finding(canvas.clipped(clot, tissue), "blood", lesion.kind)


def paint_intraventricular(canvas: HeadCanvas, head: Head, lesion: HeadLesion) -> None:
    """Fill the back of the lateral ventricles, where blood settles in a patient who lies down."""
    for patch in ventricle_patches(canvas, head):
        _, y, x = canvas.grid.cut(patch.box)
        settled = ramp(y - np.float32(-4) + 0 * x, 8.0)
        if lesion.side != "bilateral":
            settled = settled * (np.float32(lesion.sign) * x > 0)
        canvas.finding(Patch(patch.box, patch.alpha * settled), "blood", lesion.kind)


def paint_subarachnoid(canvas: HeadCanvas, head: Head, lesion: HeadLesion) -> None:
    """Fill the fluid of the cisterns and of the folds nearby."""
    edge = canvas.grid.edge_mm
    for point, radius in zip(lesion.points, lesion.radii, strict=True):
        ball = canvas.ball(point, float(radius))
        fluid = ramp(canvas.inside[ball.box].copy(), edge) * (1 - canvas.brain[ball.box])
        canvas.finding(
            Patch(ball.box, ball.alpha * np.minimum(1.5 * fluid, 1)), "blood", lesion.kind
        )


def paint_subdural(canvas: HeadCanvas, head: Head, lesion: HeadLesion) -> None:
    """Paint a crescent along one half of the skull, thickest at its point."""
    z, y, x = canvas.grid.axes
    point = lesion.points[0]
    along = np.sqrt(
        (z - np.float32(point[0])) ** 2
        + (y - np.float32(point[1])) ** 2
        + (x - np.float32(point[2])) ** 2
    )
    thickness = np.float32(lesion.radii[0]) * np.clip(1.25 - (along / 105) ** 2, 0, 1)
    thickness *= ramp(np.float32(lesion.sign) * x - 4 + 0 * z, 10.0)
    thickness *= ramp(z + 22, 12.0)  # not along the base of the skull
    depth = np.minimum(canvas.inside, thickness - canvas.inside)
    alpha = ramp(depth, canvas.grid.edge_mm) * (thickness > 1)
    tissue = "old blood" if lesion.old else "blood"
    canvas.finding(Patch(canvas.whole, alpha.astype(np.float32)), tissue, lesion.kind)


def paint_epidural(canvas: HeadCanvas, head: Head, lesion: HeadLesion) -> None:
    """Paint a lens between skull and dura."""
    point, radius = lesion.points[0], float(lesion.radii[0])
    outward = (point - np.asarray(CAVITY_CENTER)) / np.linalg.norm(point - CAVITY_CENTER)
    ball = canvas.within_skull(canvas.ball(point + 0.3 * radius * outward, radius))
    canvas.finding(ball, "blood", lesion.kind)


def paint_fracture(canvas: HeadCanvas, head: Head, lesion: HeadLesion) -> None:
    """Open a gap in the skull, wider than a real one so that a coarse lattice shows it."""
    point, radius = lesion.points[0], float(lesion.radii[0])
    rng = np.random.default_rng(lesion.seed)
    normal = np.cross(point - np.asarray(CAVITY_CENTER), rng.normal(size=3))
    normal /= np.linalg.norm(normal)
    ball = canvas.ball(point, radius)
    offsets = [
        axis - np.float32(middle)
        for axis, middle in zip(canvas.grid.cut(ball.box), point, strict=True)
    ]
    distance = sum(np.float32(n) * offset for n, offset in zip(normal, offsets, strict=True))
    gap = ramp(np.float32(1.8) - np.abs(distance), canvas.grid.edge_mm)
    inside = canvas.inside[ball.box]
    bone = ramp(np.minimum(-inside, inside + np.float32(SKULL_MM)), canvas.grid.edge_mm)
    canvas.finding(Patch(ball.box, ball.alpha * gap * bone), "blood", lesion.kind, threshold=0.25)
