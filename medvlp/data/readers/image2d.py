"""Single 2D images: PNG, JPEG, TIFF and BMP through Pillow, and single-frame DICOM."""

import io
import struct
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Shaped

from medvlp.data.readers.registry import ReadError

if TYPE_CHECKING:
    from PIL.Image import Image

_FORMATS = ("PNG", "JPEG", "TIFF", "BMP")
_EXIF_ORIENTATION = 274
_BITS = {"1": 1, "I;16": 16, "I;16B": 16, "I;16L": 16, "I;16N": 16, "I": 32, "F": 32}


@dataclass(frozen=True, eq=False)
class Image2D:
    """One image as it came from its file.

    Attributes:
        mode: Pillow's name of the file's own mode: "L", "P", "1", "I;16", "RGBA", "CMYK".
        bits: Per sample, as stored.
        image: The Pillow image in that mode, for transforms that resize before they convert.
        provenance: Where it came from; "exif_orientation" other than 1 says that a viewer would
            turn it: it is not turned here.
    """

    mode: str
    bits: int
    image: "Image" = field(repr=False)
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def array(self) -> Shaped[np.ndarray, "h w *c"]:
        """Grey in the depth of the file, (h, w), or colours (h, w, 3).

        Grey is uint8, uint16, int32 or float32, 0 or 255 for 1-bit files. Colours are uint8:
        palettes and CMYK converted, transparency laid on black.
        """
        array = np.asarray(_grey_or_rgb(self.image))
        return array.astype(np.uint8) * np.uint8(255) if self.mode == "1" else array


def read_image(path: Path, content: bytes | None = None) -> Image2D:
    """Read one 2D image, told by its content, not its name.

    Args:
        path: Of the file; only a name for messages where `content` is given.
        content: Of a file that was read already, out of an archive for instance.

    Raises:
        ImportError: If it is DICOM and pydicom is missing.
        ReadError: If the file is empty, damaged, truncated, larger than Pillow's limit against
            decompression bombs, of several pages or frames, or of no known format.
    """
    if content is None:
        content = path.read_bytes()
    if content[128:132] == b"DICM":
        from medvlp.data.readers.dicom_image import read_dicom_image

        image, facts = read_dicom_image(path, content)
    else:
        image, facts = _open(path, content)
    if image.mode == "F" and not np.isfinite(np.asarray(image)).all():
        raise ReadError(f"{path}: the image has pixels that are NaN or infinite")
    bits = int(facts.pop("bits", _BITS.get(image.mode, 8)))
    return Image2D(image.mode, bits, image, {"path": str(path), "size": image.size, **facts})


def _open(path: Path, content: bytes) -> tuple["Image", dict[str, Any]]:
    from PIL import Image

    if not content:
        raise ReadError(f"{path}: the file has 0 bytes")
    try:
        with warnings.catch_warnings():
            # up to twice this limit is read, beyond is an error: Pillow's own rule
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(content), formats=_FORMATS)
            _require_one_page(path, image)
            image.load()
    except Image.UnidentifiedImageError as error:
        raise ReadError(
            f"{path}: not an image, or of an unknown format; known: {', '.join(_FORMATS)}, DICOM"
        ) from error
    except Image.DecompressionBombError as error:
        raise ReadError(f"{path}: {error}; cut it into tiles first") from error
    except ReadError:
        raise
    except (OSError, ValueError, SyntaxError, struct.error) as error:
        raise ReadError(f"{path}: damaged or truncated image ({error})") from error
    orientation = int(image.getexif().get(_EXIF_ORIENTATION, 1))
    if orientation != 1:
        warnings.warn(
            f"{path}: EXIF orientation {orientation}: viewers show it turned, it is read as stored",
            stacklevel=3,
        )
    return image, {
        "reader": image.format or "",
        "exif_orientation": orientation,
        **_deep_colour(path, content, image),
    }


def _require_one_page(path: Path, image: "Image") -> None:
    pages = getattr(image, "n_frames", 1)
    if pages > 1 and image.format != "MPO":  # a photograph with a preview of itself
        raise ReadError(f"{path}: {pages} pages or frames, expected one image; split it first")


def _deep_colour(path: Path, content: bytes, image: "Image") -> dict[str, Any]:
    """Say where Pillow has no mode for what is stored: 16-bit colours of a PNG become 8-bit."""
    if image.format != "PNG" or image.mode not in ("RGB", "RGBA", "LA") or content[24] != 16:
        return {}
    warnings.warn(
        f"{path}: colours of 16 bits are read with 8: Pillow has no mode for them", stacklevel=4
    )
    return {"stored_bits": 16}


def _grey_or_rgb(image: "Image") -> "Image":
    from PIL import Image

    if image.mode in ("1", "L", "I", "F") or image.mode.startswith("I;16"):
        return image
    if "transparency" in image.info or image.mode in ("RGBA", "LA", "PA"):
        pixels = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", pixels.size, "black"), pixels).convert("RGB")
    return image.convert("RGB")
