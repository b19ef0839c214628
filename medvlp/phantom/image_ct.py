"""CT slices cut around one organ, in three planes, as in the organ sets of MedMNIST's kind."""

from collections.abc import Callable

import numpy as np

from medvlp.phantom.image_canvas import Canvas, Map, Number, over, step

ORGANS = (
    "heart",
    "left lung",
    "right lung",
    "liver",
    "spleen",
    "pancreas",
    "left kidney",
    "right kidney",
    "bladder",
    "left femoral head",
    "right femoral head",
)
PLANES = ("axial", "coronal", "sagittal")
FINDINGS = tuple(f"{plane} {organ}" for plane in PLANES for organ in ORGANS)

# Height of an organ over its width, as it looks in each plane.
_ASPECT = {"axial": 0.9, "coronal": 1.25, "sagittal": 1.1}


def paint_ct(finding: str, canvas: Canvas) -> Map:
    """Paint a slice with the organ in its middle; the patient's left is on the right."""
    plane, organ = finding.split(" ", 1)
    picture = 0.42 + 0.05 * canvas.cloud(0.4)
    # a sagittal slice has the back on the right and tells left from right by the neighbours only
    middle = 1 if plane == "sagittal" else -1 if organ.startswith("left") else 1
    aspect = _ASPECT[plane] * canvas.between(0.92, 1.08)
    kind = organ.removeprefix("left ").removeprefix("right ")
    _ORGANS[kind](picture, canvas, middle, aspect)
    if plane == "sagittal" and kind in ("lung", "kidney"):
        _neighbour(picture, canvas, organ)
    if plane != "axial":
        _column(picture, canvas, 0.85 * middle)
    elif kind in ("kidney", "liver", "spleen", "pancreas", "heart"):
        _vertebra(picture, canvas, 0.75 * (middle if kind == "kidney" else _SPINE[kind]))
    return picture + canvas.grain(0.03)


_SPINE = {"liver": 0.95, "spleen": -0.95, "pancreas": 0.0, "heart": 0.1}


def _vertebra(picture: Map, canvas: Canvas, x: Number) -> None:
    over(picture, canvas.blob(0.85, x, (0.24, 0.28)), 0.9)
    over(picture, canvas.blob(0.95, x, (0.08, 0.09)), 0.5)


def _column(picture: Map, canvas: Canvas, x: Number) -> None:
    bodies = step(0.12 - np.abs(canvas.x - np.float32(x)), 14)
    discs = np.sin(canvas.y * np.float32(canvas.between(9, 11)) + canvas.between(0, 6))
    over(picture, bodies * step(discs + 0.6, 3), 0.9)


def _neighbour(picture: Map, canvas: Canvas, organ: str) -> None:
    """Put the spleen above a left kidney and the heart before a left lung; the liver else."""
    if organ.startswith("right"):
        y = -0.75 if organ.endswith("kidney") else 0.95
        over(picture, canvas.blob(y, -0.3, (0.35, 0.9)), 0.66)
    elif organ.endswith("kidney"):
        over(picture, canvas.blob(-0.85, 0.4, (0.2, 0.35)), 0.7)
    else:
        over(picture, canvas.blob(0.5, -0.65, (0.35, 0.3)), 0.82)


def _vessels(canvas: Canvas, spacing: float, share: float) -> Map:
    distance, value = canvas.cells(spacing)
    return step(0.24 - distance, 8) * (value < share)


def _heart(picture: Map, canvas: Canvas, middle: int, aspect: float) -> None:
    for x in (-0.9, 0.9):
        over(picture, canvas.blob(-0.1, x, (0.95, 0.45)), 0.1)
    over(picture, canvas.blob(0, 0.08, (0.55 * aspect, 0.58), turn=0.5), 0.7)
    over(picture, canvas.blob(0.05, 0.25, (0.3 * aspect, 0.2), turn=0.6), 0.88)
    over(picture, canvas.blob(-0.05, -0.2, (0.3 * aspect, 0.2), turn=0.6), 0.82)


def _lung(picture: Map, canvas: Canvas, middle: int, aspect: float) -> None:
    lung = canvas.blob(0, -0.08 * middle, (0.85 * aspect, 0.68), edge=12)
    over(picture, lung, 0.08)
    over(picture, lung * _vessels(canvas, 0.2, 0.5), 0.5)
    over(picture, canvas.blob(0.05, 0.95 * middle, (0.5, 0.32)), 0.68)


def _liver(picture: Map, canvas: Canvas, middle: int, aspect: float) -> None:
    wedge = canvas.blob(0, -0.2, (0.7 * aspect, 0.8)) * step(0.75 - canvas.x - canvas.y * 0.5, 6)
    over(picture, wedge, 0.66)
    over(picture, wedge * _vessels(canvas, 0.32, 0.4), 0.78)


def _spleen(picture: Map, canvas: Canvas, middle: int, aspect: float) -> None:
    whole = canvas.blob(0, 0.15, (0.68 * aspect, 0.45), turn=0.3)
    bite = canvas.blob(-0.05, -0.25, (0.5 * aspect, 0.42))
    over(picture, whole * (1 - bite), 0.74)
    over(picture, canvas.blob(-0.4, -0.65, (0.45, 0.35)), 0.25)


def _pancreas(picture: Map, canvas: Canvas, middle: int, aspect: float) -> None:
    over(picture, canvas.blob(0, 0, (0.75, 0.95), edge=3), 0.26)
    wave = canvas.y - 0.22 * np.sin(canvas.x * 2.4 + 0.5)
    lobules = 0.13 + 0.03 * np.sin(canvas.x * 16)
    body = step(lobules * aspect - np.abs(wave), 14) * step(0.75 - np.abs(canvas.x), 8)
    over(picture, body, 0.6)


def _kidney(picture: Map, canvas: Canvas, middle: int, aspect: float) -> None:
    over(picture, canvas.blob(0, 0, (0.85, 0.75), edge=4), 0.24)
    bean = canvas.blob(0, 0, (0.6 * aspect, 0.42), turn=0.2 * middle)
    over(picture, bean, 0.84)
    over(picture, canvas.blob(0.02, 0.06 * middle, (0.36 * aspect, 0.22)), 0.68)
    over(picture, canvas.blob(0, 0.32 * middle, (0.14, 0.26)), 0.3)


def _bladder(picture: Map, canvas: Canvas, middle: int, aspect: float) -> None:
    for x in (-0.95, 0.95):
        over(picture, canvas.blob(0.3, x, (0.55, 0.16), turn=0.3 * x), 0.88)
    over(picture, canvas.blob(0, 0, (0.58 * aspect, 0.6)), 0.58)
    over(picture, canvas.blob(0, 0, (0.52 * aspect, 0.54), edge=14), 0.32)


def _femoral_head(picture: Map, canvas: Canvas, middle: int, aspect: float) -> None:
    socket = canvas.blob(-0.05, 0.12 * middle, (0.66 * aspect, 0.62))
    open_side = step(canvas.x * middle + 0.1, 6)
    over(picture, socket * open_side, 0.86)
    over(picture, canvas.blob(0, 0, (0.5 * aspect, 0.48)), 0.4)
    over(picture, canvas.blob(0.5, -0.5 * middle, (0.2, 0.55), turn=-0.7 * middle), 0.82)
    over(picture, canvas.blob(0, 0, (0.44 * aspect, 0.42)), 0.94)


_ORGANS: dict[str, Callable[[Map, Canvas, int, float], None]] = {
    "heart": _heart,
    "lung": _lung,
    "liver": _liver,
    "spleen": _spleen,
    "pancreas": _pancreas,
    "kidney": _kidney,
    "bladder": _bladder,
    "femoral head": _femoral_head,
}
