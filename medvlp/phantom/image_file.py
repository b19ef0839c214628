"""Painted images as bytes of files."""

import io
from typing import Literal

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray
from PIL import Image

Form = Literal["JPEG", "PNG", "TIFF", "16-bit PNG", "CMYK JPEG", "palette PNG"]
ODD_FORMS: tuple[Form, ...] = ("16-bit PNG", "CMYK JPEG", "palette PNG")


def encode(image: UInt8[ndarray, "h w 3"], form: Form = "JPEG") -> bytes:
    """Write an image into memory; grey images get one channel.

    Args:
        image: As `paint` gives it.
        form: Of the file.
    """
    grey = bool((image == image[..., :1]).all())
    picture = Image.fromarray(image[..., 0] if grey else image)
    if form == "16-bit PNG":
        picture = Image.fromarray(image[..., 0].astype(np.uint16) * 257)
    elif form == "palette PNG":
        picture = picture.convert("RGB").quantize(64)
    elif form == "CMYK JPEG":
        picture = picture.convert("CMYK")
    file = io.BytesIO()
    picture.save(file, form.split(" ")[-1], **({"quality": 90} if form.endswith("JPEG") else {}))
    return file.getvalue()
