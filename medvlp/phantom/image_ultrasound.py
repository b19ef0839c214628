"""Ultrasound of breast, thyroid, gallbladder and kidney: speckle, depth, shadows one finding."""

import numpy as np

from medvlp.phantom.image_canvas import Canvas, Map, over, step

FINDINGS = (
    "benign breast lesion",
    "malignant breast lesion",
    "benign thyroid nodule",
    "malignant thyroid nodule",
    "gallbladder",
    "kidney",
)


def paint_ultrasound(finding: str, canvas: Canvas) -> Map:
    """Paint an echo image; the probe is at the top."""
    organ = finding.split(" ")[1] if " " in finding else finding
    picture = {"breast": _breast, "thyroid": _thyroid}.get(organ, _abdomen)(finding, canvas)
    coarse, fine = canvas.cloud(0.06), canvas.grain(0.55)
    speckle = np.clip(0.85 + 0.28 * coarse + 0.4 * fine, 0.1, 2)
    return picture * speckle * (1.12 - 0.22 * (canvas.plain_y + 1))


def _breast(finding: str, canvas: Canvas) -> Map:
    waves = canvas.y * np.float32(canvas.between(6, 8)) + 0.6 * canvas.cloud(0.7)
    picture = 0.42 + 0.16 * np.sin(waves) * step(canvas.y + 0.75, 3)
    y, x, size = canvas.between(-0.15, 0.1), canvas.between(-0.25, 0.25), canvas.between(0.3, 0.4)
    below = step(canvas.y - np.float32(y + size / 2), 6)
    column = step(np.float32(size * 0.8) - np.abs(canvas.x - np.float32(x)), 5)
    if finding.startswith("benign"):
        picture += 0.3 * below * column  # what lies behind a cyst is bright
        over(picture, canvas.blob(y, x, (size * 0.6, size * 1.15), edge=10), 0.12)
        return picture
    over(picture, below * column * 0.85, 0.06)  # and behind a cancer dark
    angle = np.arctan2(canvas.y - np.float32(y), canvas.x - np.float32(x))
    spikes = 1 + 0.3 * np.sin(angle * 9 + canvas.between(0, 6)) + 0.2 * canvas.cloud(0.25)
    distance = canvas.radius(y, x, (size * 1.1, size * 0.75))
    over(picture, step(spikes - distance, 5), 0.1)
    return picture


def _thyroid(finding: str, canvas: Canvas) -> Map:
    side = canvas.side()
    picture = 0.28 + 0.04 * canvas.cloud(0.3)
    over(picture, step(-0.55 - canvas.y, 8), 0.5)  # skin and muscle
    over(picture, canvas.blob(0, 0.1 * side, (0.55, 0.75)), 0.6)
    trachea = canvas.blob(0.15, -0.85 * side, (0.5, 0.35))
    over(picture, trachea, 0.04)
    over(picture, canvas.blob(0.2, 0.85 * side, (0.2, 0.18)), 0.03)  # carotid
    y, x, size = canvas.between(-0.1, 0.15), canvas.between(-0.1, 0.2) * side, 0.34
    if finding.startswith("benign"):
        over(picture, canvas.blob(y, x, (size * 0.95, size * 1.2), edge=12), 0.16)  # halo
        over(picture, canvas.blob(y, x, (size * 0.75, size * 1.0), edge=12), 0.74)
        return picture
    ragged = 1 + 0.25 * canvas.cloud(0.18)
    nodule = step(ragged - canvas.radius(y, x, (size * 1.35, size * 0.85)), 6)
    over(picture, nodule, 0.2)
    distance, value = canvas.cells(0.13)
    over(picture, nodule * step(0.3 - distance, 9) * (value < 0.45), 1.0)  # microcalcifications
    return picture


def _abdomen(finding: str, canvas: Canvas) -> Map:
    picture = 0.5 + 0.08 * canvas.cloud(0.3)
    y, x = canvas.between(-0.1, 0.15), canvas.between(-0.15, 0.15)
    if finding == "gallbladder":
        turn = canvas.between(0.2, 0.7)
        below = step(canvas.y - np.float32(y + 0.2), 5) * step(0.3 - np.abs(canvas.x - x), 4)
        picture += 0.25 * below
        over(picture, canvas.blob(y, x, (0.26, 0.52), turn=turn), 0.75)
        over(picture, canvas.blob(y, x, (0.2, 0.46), turn=turn), 0.03)
    else:
        over(picture, canvas.blob(y, x, (0.36, 0.66), turn=0.15), 0.26)
        sinus = canvas.blob(y, x, (0.13, 0.4), turn=0.15, edge=3)
        over(picture, sinus, 0.95)
    # a curved probe shows a fan
    slope = np.abs(canvas.plain_x) - 0.55 * (canvas.plain_y + 1.6) * 0.8
    return picture * step(-slope, 20) * step(1.05 - canvas.radius(-1.2, 0, (2.1, 2.1)), 20)
