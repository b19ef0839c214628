"""Painted 2D images of six modalities, each with one finding, as small as 16 pixels."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, UInt8
from numpy import ndarray

from medvlp.phantom import image_ct, image_fundus, image_mri, image_ultrasound, image_xray
from medvlp.phantom.image_canvas import Canvas
from medvlp.phantom.image_pathology import paint_pathology, tissues

MIN_SIZE = 16

FINDINGS: dict[str, tuple[str, ...]] = {
    "xray": image_xray.FINDINGS,
    "ct": image_ct.FINDINGS,
    "mri": image_mri.FINDINGS,
    "ultrasound": image_ultrasound.FINDINGS,
    "pathology": tuple(tissues()),
    "fundus": image_fundus.FINDINGS,
}
MODALITIES = tuple(FINDINGS)

_PAINTERS: dict[str, Callable[[str, Canvas], Float[ndarray, "h w *c"]]] = {
    "xray": image_xray.paint_xray,
    "ct": image_ct.paint_ct,
    "mri": image_mri.paint_mri,
    "ultrasound": image_ultrasound.paint_ultrasound,
    "pathology": paint_pathology,
    "fundus": image_fundus.paint_fundus,
}


def paint(
    modality: str, finding: str, generator: np.random.Generator, *, size: int
) -> UInt8[ndarray, "h w 3"]:
    """Paint one image; place, size, contrast, noise and colours of things vary by chance.

    Args:
        modality: One of `MODALITIES`.
        finding: One of `FINDINGS[modality]`.
        generator: Of all chance.
        size: Pixels along both sides.

    Returns:
        Colours; the three of a grey image are equal.

    Raises:
        ValueError: If there is no such modality or finding, or the image would be too small.
    """
    if finding not in FINDINGS.get(modality, ()):
        known = FINDINGS.get(modality, MODALITIES)
        raise ValueError(f"{modality!r} with {finding!r} cannot be painted; known: {list(known)}")
    if size < MIN_SIZE:
        raise ValueError(f"size {size} is too small, take {MIN_SIZE} or more")
    canvas = Canvas(size, generator)
    picture = _PAINTERS[modality](finding, canvas)
    if picture.ndim == 2:
        picture = np.clip(picture, 0, 1) ** np.float32(canvas.between(0.8, 1.25))
        picture = np.repeat(picture[..., None], 3, axis=2)
    picture = picture * canvas.between(0.88, 1.08) + canvas.between(-0.03, 0.03)
    return (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)
