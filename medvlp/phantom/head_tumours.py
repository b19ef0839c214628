"""Paint what grows or dies in a brain: infarcts, tumours, cysts, each with what surrounds it."""

import numpy as np

from medvlp.phantom.head_anatomy import Head
from medvlp.phantom.head_canvas import HeadCanvas
from medvlp.phantom.head_lesion import HeadLesion
from medvlp.phantom.shapes import Patch, ellipsoid, metaballs
from medvlp.phantom.texture import smooth_field


def paint_stroke(canvas: HeadCanvas, head: Head, lesion: HeadLesion) -> None:
    """Paint an acute infarct: bright in diffusion, dark in its coefficient, swollen in FLAIR."""
    patch = metaballs(canvas.grid, lesion.points, lesion.radii)
    canvas.finding(_in_brain(canvas, patch), "infarct", lesion.kind)


def paint_glioma(canvas: HeadCanvas, head: Head, lesion: HeadLesion) -> None:
    """Paint edema, a heterogeneous mass with a rim that takes up contrast medium, dead tissue."""
    spread = metaballs(canvas.grid, lesion.points, 1.45 * lesion.radii + 3)
    canvas.finding(_in_brain(canvas, spread), "edema", "edema")
    mass = _in_brain(canvas, metaballs(canvas.grid, lesion.points, lesion.radii))
    canvas.finding(mass, "enhancing tumour", lesion.kind)
    core = _in_brain(canvas, metaballs(canvas.grid, lesion.points, 0.68 * lesion.radii))
    canvas.tissue(core, "necrosis")
    patches = smooth_field(canvas.grid, lesion.seed, 9.0)[mass.box]
    solid = mass.alpha * np.clip(patches, 0, 1).astype(np.float32)
    canvas.tissue(Patch(mass.box, np.minimum(solid, 1)), "tumour")


def paint_meningioma(canvas: HeadCanvas, head: Head, lesion: HeadLesion) -> None:
    """Paint a round mass on the dura, outside the brain, that takes up contrast medium evenly."""
    radius = float(lesion.radii[0])
    surface = lesion.points[0]
    inward = -surface / np.linalg.norm(surface)
    center = surface + 0.72 * radius * inward
    around = canvas.ball(center, radius + 4)
    canvas.finding(_in_brain(canvas, around), "edema", "edema")
    ball = canvas.within_skull(canvas.ball(center, radius))
    cleft = canvas.ball(center, radius + 1.5)
    canvas.tissue(canvas.within_skull(cleft), "csf")
    canvas.finding(ball, "meningioma", lesion.kind)


def paint_metastases(canvas: HeadCanvas, head: Head, lesion: HeadLesion) -> None:
    """Paint several small round masses with edema; the larger ones are dead in the middle."""
    for point, radius in zip(lesion.points, lesion.radii, strict=True):
        size = float(radius)
        around = canvas.ball(point, size + 6)
        canvas.finding(_in_brain(canvas, around), "edema", "edema")
        ball = _in_brain(canvas, canvas.ball(point, size))
        canvas.finding(ball, "enhancing tumour", lesion.kind)
        if size > 7.5:
            core = canvas.ball(point, 0.45 * size)
            canvas.tissue(_in_brain(canvas, core), "necrosis")


def paint_cyst(canvas: HeadCanvas, head: Head, lesion: HeadLesion) -> None:
    """Paint a pouch of fluid between brain and skull."""
    radius = float(lesion.radii[0])
    z, y, x = (lesion.points[0] + np.asarray([0.0, 0.0, 10.0 * lesion.sign])).tolist()
    patch = ellipsoid(canvas.grid, (z, y, x), (radius, 1.2 * radius, 0.8 * radius))
    canvas.finding(canvas.within_skull(patch), "csf", lesion.kind)


def _in_brain(canvas: HeadCanvas, patch: Patch) -> Patch:
    tissue = canvas.brain[patch.box] * (1 - canvas.ventricles[patch.box])
    # the folds are narrower than what is painted here: half fluid counts as tissue
    return Patch(patch.box, patch.alpha * np.minimum(2 * tissue, 1))
