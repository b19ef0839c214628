"""MRI slices: the knee seen from the side, and the brain from below, with one finding."""

import numpy as np

from medvlp.phantom.image_canvas import Canvas, Map, over, step

FINDINGS = (
    "normal knee",
    "meniscal tear",
    "ACL tear",
    "knee effusion",
    "normal brain",
    "brain tumor",
)


def paint_mri(finding: str, canvas: Canvas) -> Map:
    """Paint a slice; bright is fat or fluid."""
    picture = (
        _brain(finding, canvas)
        if finding.endswith(("brain", "tumor"))
        else (_knee(finding, canvas))
    )
    bias = 1 + 0.18 * np.tanh(canvas.cloud(1.2))  # uneven coil
    return picture * bias + canvas.grain(0.03)


def _knee(finding: str, canvas: Canvas) -> Map:
    picture = 0.06 + 0.32 * canvas.blob(0, 0, (1.6, 0.85), edge=10) + 0.03 * canvas.cloud(0.3)
    _bone(picture, canvas, -0.62, 0.05)
    _bone(picture, canvas, 0.62, 0.0)
    over(picture, canvas.blob(-0.35, -0.62, (0.28, 0.13)), 0.7)  # patella
    for x in (-0.34, 0.36):
        torn = finding == "meniscal tear" and (x > 0 or canvas.generator.random() < 0.3)
        _meniscus(picture, canvas, x, torn)
    _ligament(picture, canvas, finding == "ACL tear")
    if finding == "knee effusion":
        over(picture, canvas.blob(-0.1, -0.66, (0.62, 0.1), turn=0.15), 1.0)
        over(picture, canvas.blob(0.02, 0.66, (0.24, 0.12)), 0.95)
    return picture


def _bone(picture: Map, canvas: Canvas, y: float, x: float) -> None:
    over(picture, canvas.blob(y, x, (0.56, 0.54), edge=10), 0.1)
    over(picture, canvas.blob(y, x, (0.5, 0.48), edge=10), canvas.between(0.62, 0.72))


def _meniscus(picture: Map, canvas: Canvas, x: float, torn: bool) -> None:
    outward = (canvas.x - np.float32(x)) * np.sign(x) + 0.2
    wedge = step(outward * 0.55 - np.abs(canvas.y), 12) * step(0.4 - outward, 12)
    over(picture, wedge, 0.05)
    if torn:
        line = np.abs(canvas.y - 0.3 * (outward - 0.2))
        over(picture, wedge * step(0.055 - line, 16), 0.98)


def _ligament(picture: Map, canvas: Canvas, torn: bool) -> None:
    along = 0.75 * canvas.y - 0.66 * canvas.x
    across = np.abs(0.66 * canvas.y + 0.75 * canvas.x - 0.02)
    band = step(0.06 - across, 14) * step(0.3 - np.abs(along), 10)
    if torn:
        over(picture, canvas.blob(0, 0.02, (0.26, 0.2), turn=0.7, edge=3), 0.92)
        band *= step(np.abs(along) - 0.2, 12)
    over(picture, band, 0.04)


def _brain(finding: str, canvas: Canvas) -> Map:
    outer = canvas.radius(0, 0, (0.9, 0.74))
    picture = 0.04 + 0.72 * step(1 - outer, 14)
    over(picture, step(0.93 - outer, 16), 0.08)  # skull bone
    brain = step(0.86 - outer, 14)
    folds = np.sin(np.arctan2(canvas.y, canvas.x) * 16 + 3 * canvas.cloud(0.4))
    over(picture, brain, 0.5 - 0.16 * np.clip(folds, 0, 1) * step(outer - 0.62, 5))
    over(picture, step(0.5 - outer, 3), 0.62)
    for side in (-1, 1):
        ventricle = canvas.blob(-0.02, 0.13 * side, (0.3, 0.08), turn=-0.25 * side)
        over(picture, ventricle, 0.14)
    if finding == "brain tumor":
        y, x = canvas.between(-0.4, 0.4), canvas.between(0.28, 0.4) * canvas.side()
        size = canvas.between(0.2, 0.3)
        over(picture, canvas.blob(y, x, (size * 1.6, size * 1.5), edge=2) * brain, 0.32)
        over(picture, canvas.blob(y, x, (size, size * 0.9)) * brain, 0.97)
        over(picture, canvas.blob(y, x, (size * 0.5, size * 0.45)) * brain, 0.3)
    return picture
