"""Chest radiographs in the frontal view: lungs, ribs, spine, heart, diaphragm, and one finding."""

import numpy as np

from medvlp.phantom.image_canvas import Canvas, Map, over, step

FINDINGS = (
    "normal",
    "pneumonia",
    "cardiomegaly",
    "edema",
    "consolidation",
    "atelectasis",
    "pleural effusion",
)


def paint_xray(finding: str, canvas: Canvas) -> Map:
    """Paint a chest radiograph; bright is dense."""
    side = canvas.side()
    volume_loss = 0.28 if finding == "atelectasis" else 0.0
    body = canvas.blob(0.25, 0, (1.5, canvas.between(0.85, 0.97)), edge=14)
    picture = 0.05 + body * canvas.between(0.48, 0.58)
    lungs = {-1: _lung(canvas, -1, volume_loss * (side == -1))}
    lungs[1] = _lung(canvas, 1, volume_loss * (side == 1))
    both = np.maximum(lungs[-1], lungs[1])
    over(picture, both, canvas.between(0.16, 0.26))
    _ribs(picture, canvas, both)
    over(picture, canvas.blob(0, 0, (2, 0.09), edge=10), 0.66)
    width = 0.56 if finding == "cardiomegaly" else canvas.between(0.27, 0.33)
    heart = canvas.blob(0.32, 0.12 + 0.05 * (width > 0.4), (0.36 + width / 4, width), turn=0.4)
    over(picture, heart, 0.74)
    _FINDINGS.get(finding, _nothing)(picture, canvas, lungs, side)
    return picture + canvas.grain(0.025) + 0.02 * canvas.cloud(0.5)


def _lung(canvas: Canvas, side: int, loss: float) -> Map:
    lower = canvas.between(0.52, 0.64) - 2 * loss
    lung = canvas.blob(-0.05, 0.44 * side, (0.78, 0.34 - loss / 4), turn=-0.06 * side, edge=9)
    # the dome of the diaphragm cuts the lung from below
    dome = lower - 0.12 + 0.9 * (canvas.x - np.float32(0.4 * side)) ** 2
    return lung * step(dome + 0.1 - canvas.y, 12)


def _ribs(picture: Map, canvas: Canvas, lungs: Map) -> None:
    arcs = canvas.y - 0.35 * (np.abs(canvas.x) - 0.4) ** 2 * 3
    stripes = np.clip(
        np.sin(arcs * np.float32(canvas.between(17, 20)) + canvas.between(0, 6)), 0, 1
    )
    picture += stripes * (0.06 + 0.06 * lungs)


def _nothing(picture: Map, canvas: Canvas, lungs: dict[int, Map], side: int) -> None:
    """Leave the chest as it is: normal, and what is painted before (heart, lost volume)."""


def _pneumonia(picture: Map, canvas: Canvas, lungs: dict[int, Map], side: int) -> None:
    y, x = canvas.between(-0.1, 0.35), canvas.between(0.36, 0.5) * side
    patch = canvas.blob(y, x, (0.36, 0.28), edge=1.6)
    mottled = np.clip(0.65 + 0.5 * canvas.cloud(0.12), 0, 1)
    over(picture, patch * mottled * lungs[side], 0.7)


def _consolidation(picture: Map, canvas: Canvas, lungs: dict[int, Map], side: int) -> None:
    # a whole lobe, bounded by a straight fissure
    border = canvas.between(-0.2, -0.05) + 0.25 * (canvas.x * side - 0.4)
    lobe = step(border - canvas.y, 16) * lungs[side]
    over(picture, lobe * 0.95, 0.72)


def _edema(picture: Map, canvas: Canvas, lungs: dict[int, Map], side: int) -> None:
    haze = np.exp(-((np.abs(canvas.x) - 0.2) ** 2 * 9 + (canvas.y - 0.05) ** 2 * 4))
    streaks = np.clip(0.75 + 0.35 * canvas.cloud(0.1), 0, 1)
    over(picture, haze * streaks * np.maximum(lungs[-1], lungs[1]), 0.72)


def _atelectasis(picture: Map, canvas: Canvas, lungs: dict[int, Map], side: int) -> None:
    # a plate of collapsed lung above the raised diaphragm
    y = canvas.between(-0.25, -0.1)
    plate = canvas.blob(y, 0.44 * side, (0.07, 0.3), turn=canvas.between(-0.2, 0.2), edge=1.5)
    over(picture, plate * lungs[side], 0.8)


def _effusion(picture: Map, canvas: Canvas, lungs: dict[int, Map], side: int) -> None:
    outward = canvas.x * side
    level = canvas.between(0.05, 0.3) - 0.6 * np.clip(outward - 0.35, 0, 1)
    fluid = step(canvas.y - level, 14) * step(outward - 0.12, 12) * step(0.8 - outward, 12)
    over(picture, fluid * step(0.75 - canvas.y, 10), 0.78)


_FINDINGS = {
    "pneumonia": _pneumonia,
    "consolidation": _consolidation,
    "edema": _edema,
    "atelectasis": _atelectasis,
    "pleural effusion": _effusion,
}
