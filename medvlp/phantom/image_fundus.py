"""Photographs of the back of the eye: disc, macula, vessels and one finding."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from medvlp.phantom.image_canvas import Canvas, Map, Number, step

FINDINGS = (
    "normal",
    "mild diabetic retinopathy",
    "moderate diabetic retinopathy",
    "severe diabetic retinopathy",
    "proliferative diabetic retinopathy",
    "glaucoma",
    "age-related macular degeneration",
    "pathologic myopia",
    "cataract",
)

Colour = Float[ndarray, "h w 3"]
_YELLOW, _WHITE, _RED, _DARK = (
    (0.98, 0.85, 0.45),
    (1.0, 0.95, 0.82),
    (0.5, 0.06, 0.04),
    (0.3, 0.05, 0.03),
)


def paint_fundus(finding: str, canvas: Canvas) -> Colour:
    """Paint a colour photograph of a left or right eye."""
    side = canvas.side()
    red, green = canvas.between(0.72, 0.88), canvas.between(0.32, 0.44)
    picture = np.empty((canvas.size, canvas.size, 3), np.float32)
    shade = 1 + 0.05 * canvas.cloud(0.5)
    for channel, value in enumerate((red, green, green * 0.4)):
        picture[..., channel] = shade * np.float32(value)
    over(picture, canvas.blob(0, -0.15 * side, (0.24, 0.24), edge=2) * 0.5, (0.45, 0.15, 0.06))
    vessels = _vessels(canvas, side)
    disc_x = 0.5 * side
    over(picture, canvas.blob(0, disc_x, (0.21, 0.19)), (0.97, 0.78, 0.42))
    over(picture, canvas.blob(0, disc_x, (0.09, 0.08)), _WHITE)
    if finding in ("pathologic myopia", "glaucoma"):
        _FINDINGS[finding](picture, canvas, side)
    over(picture, vessels * 0.85, _RED)
    if finding not in ("pathologic myopia", "glaucoma", "normal"):
        _FINDINGS[finding](picture, canvas, side)
    round_field = step(0.96 - np.hypot(canvas.plain_y, canvas.plain_x), 20)
    picture += canvas.grain(0.02)[..., None]
    return picture * round_field[..., None]


def over(picture: Colour, mask: Map, colour: tuple[Number, Number, Number]) -> None:
    """Paint a colour over a picture, in place, where the mask is."""
    for channel, value in enumerate(colour):
        plane = picture[..., channel]
        plane += (np.float32(value) - plane) * mask


def _vessels(canvas: Canvas, side: int) -> Map:
    # towards the macula, from the disc; four arcades and two short nasal branches
    out = 0.5 - canvas.x * side
    wiggle = 0.03 * canvas.cloud(0.3)
    ways = np.abs(canvas.y) - canvas.between(0.62, 0.75) * np.sqrt(np.clip(out, 0, 2)) + wiggle
    arcades = step(0.035 - np.abs(ways), 22) * step(out, 20)
    branch = np.abs(canvas.y) - 0.45 * np.sqrt(np.clip(out, 0, 2)) * (1 - 0.25 * out) + wiggle
    nasal = np.abs(canvas.y) - 0.9 * np.sqrt(np.clip(-out, 0, 1)) - wiggle
    thin = np.maximum(
        step(0.02 - np.abs(branch), 24) * step(out, 20),
        step(0.03 - np.abs(nasal), 22) * step(-out, 20),
    )
    return np.maximum(arcades, 0.7 * thin)


def _spots(canvas: Canvas, spacing: float, radius: float, share: float) -> Map:
    distance, value = canvas.cells(spacing)
    return step(np.float32(radius) - distance, 10) * (value < share)


def _dots(picture: Colour, canvas: Canvas, share: float) -> None:
    over(picture, _spots(canvas, 0.2, 0.22, share), _DARK)


def _mild(picture: Colour, canvas: Canvas, side: int) -> None:
    _dots(picture, canvas, 0.16)


def _moderate(picture: Colour, canvas: Canvas, side: int) -> None:
    _dots(picture, canvas, 0.3)
    over(picture, _spots(canvas, 0.17, 0.26, 0.18), _YELLOW)


def _severe(picture: Colour, canvas: Canvas, side: int) -> None:
    over(picture, _spots(canvas, 0.32, 0.38, 0.6), _DARK)
    over(picture, _spots(canvas, 0.17, 0.26, 0.15), _YELLOW)


def _proliferative(picture: Colour, canvas: Canvas, side: int) -> None:
    web = np.abs(np.sin(9 * canvas.cloud(0.22))) < 0.3
    over(picture, web * canvas.blob(0, 0.45 * side, (0.42, 0.42), edge=5), _RED)
    # blood before the retina settles with a level surface
    y, x = canvas.between(0.25, 0.45), canvas.between(-0.35, 0.05) * side
    boat = canvas.blob(y, x, (0.3, 0.36)) * step(canvas.y - np.float32(y), 16)
    over(picture, boat, _DARK)


def _glaucoma(picture: Colour, canvas: Canvas, side: int) -> None:
    over(picture, canvas.blob(0, 0.5 * side, (0.24, 0.22)), (0.95, 0.8, 0.5))
    over(picture, canvas.blob(0, 0.5 * side, (0.19, 0.17)), (1.0, 1.0, 0.95))


def _degeneration(picture: Colour, canvas: Canvas, side: int) -> None:
    macula = canvas.blob(0, -0.15 * side, (0.42, 0.46), edge=3)
    over(picture, macula * _spots(canvas, 0.15, 0.42, 0.75), _YELLOW)
    if canvas.generator.random() < 0.4:
        over(picture, canvas.blob(0, -0.15 * side, (0.2, 0.22)), (0.95, 0.7, 0.4))


def _myopia(picture: Colour, canvas: Canvas, side: int) -> None:
    weave = np.abs(np.sin(7 * canvas.cloud(0.35)))
    over(picture, 0.55 * weave, (0.95, 0.68, 0.42))
    over(picture, canvas.blob(0, 0.36 * side, (0.42, 0.4)), (0.99, 0.93, 0.78))
    over(picture, canvas.blob(0, 0.5 * side, (0.2, 0.18)), (0.97, 0.78, 0.42))


def _cataract(picture: Colour, canvas: Canvas, side: int) -> None:
    fog = np.clip(0.74 + 0.08 * canvas.cloud(0.7), 0, 1)
    over(picture, fog, (0.78, 0.62, 0.42))


_FINDINGS: dict[str, Callable[[Colour, Canvas, int], None]] = {
    "mild diabetic retinopathy": _mild,
    "moderate diabetic retinopathy": _moderate,
    "severe diabetic retinopathy": _severe,
    "proliferative diabetic retinopathy": _proliferative,
    "glaucoma": _glaucoma,
    "age-related macular degeneration": _degeneration,
    "pathologic myopia": _myopia,
    "cataract": _cataract,
}
