"""Single 2D images: PNG, JPEG, TIFF, BMP and WebP by Pillow, and single-frame DICOM."""

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

_FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP")
_EXIF_ORIENTATION = 274
_TAIL_BYTES = 4096  # writers may leave a few bytes behind the end
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


def read_image(
    path: Path,
    content: bytes | None = None,
    *,
    quiet: bool = False,
    shorter_side: int | None = None,
) -> Image2D:
    """Read one 2D image, told by its content, not its name.

    Args:
        path: Of the file; only a name for messages where `content` is given.
        content: Of a file that was read already, out of an archive for instance.
        quiet: Leave to the caller what else would be a warning: an orientation that is not
            applied, colours of 16 bits that are read with 8. `provenance` has both.
        shorter_side: A JPEG may be decoded at a half, quarter or eighth of its size as long as no
            side falls below so many pixels; None decodes what is stored.

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
        image = _open(path, content, shorter_side)
        facts = _facts(content, image)
    if image.mode == "F" and not np.isfinite(np.asarray(image)).all():
        raise ReadError(f"{path}: the image has pixels that are NaN or infinite")
    if not quiet:
        _warn(path, facts)
    bits = int(facts.pop("bits", _BITS.get(image.mode, 8)))
    return Image2D(image.mode, bits, image, {"path": str(path), "size": image.size, **facts})


def looks_whole(content: bytes) -> bool:
    """Say whether a JPEG or PNG file has its end, without decoding it; others always do not."""
    if content.startswith(b"\xff\xd8\xff"):
        return b"\xff\xd9" in content[-_TAIL_BYTES:]  # nothing in compressed pixels looks so
    return content.startswith(b"\x89PNG\r\n\x1a\n") and b"IEND\xaeB`\x82" in content[-_TAIL_BYTES:]


def read_header(path: Path, content: bytes) -> Image2D:
    """Read all but the pixels, with the same checks as `read_image`.

    The image decodes itself when its pixels are asked for; then only is damage in them noticed.
    """
    image = _open(path, content, load=False)
    bits = _BITS.get(image.mode, 8)
    facts = {"path": str(path), "size": image.size, **_facts(content, image)}
    return Image2D(image.mode, bits, image, facts)


def _open(
    path: Path, content: bytes, shorter_side: int | None = None, *, load: bool = True
) -> "Image":
    from PIL import Image

    if not content:
        raise ReadError(f"{path}: the file has 0 bytes")
    try:
        with warnings.catch_warnings():
            # up to twice this limit is read, beyond is an error: Pillow's own rule
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(content), formats=_FORMATS)
            _require_one_page(path, image)
            if shorter_side is not None:
                image.draft(None, (shorter_side, shorter_side))
            if load:
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
    return image


def _facts(content: bytes, image: "Image") -> dict[str, Any]:
    """State the format, and what a viewer would show otherwise."""
    try:
        orientation = int(image.getexif().get(_EXIF_ORIENTATION, 1))
    except (OSError, ValueError, TypeError, SyntaxError, struct.error):
        orientation = 1  # the tags are damaged, the pixels are not
    facts: dict[str, Any] = {"reader": image.format or "", "exif_orientation": orientation}
    if image.format == "PNG" and image.mode in ("RGB", "RGBA", "LA") and content[24] == 16:
        facts["stored_bits"] = 16  # Pillow has no mode for them
    return facts


def _warn(path: Path, facts: Mapping[str, Any]) -> None:
    orientation = facts.get("exif_orientation", 1)
    if orientation != 1:
        warnings.warn(
            f"{path}: EXIF orientation {orientation}: viewers show it turned, it is read as stored",
            stacklevel=3,
        )
    if "stored_bits" in facts:
        warnings.warn(
            f"{path}: colours of 16 bits are read with 8: Pillow has no mode for them",
            stacklevel=3,
        )


def _require_one_page(path: Path, image: "Image") -> None:
    pages = getattr(image, "n_frames", 1)
    if pages > 1 and image.format != "MPO":  # a photograph with a preview of itself
        raise ReadError(f"{path}: {pages} pages or frames, expected one image; split it first")


def _grey_or_rgb(image: "Image") -> "Image":
    if image.mode in ("1", "L", "I", "F") or image.mode.startswith("I;16"):
        return image
    return to_rgb(image)


def to_rgb(image: "Image") -> "Image":
    """Convert to RGB, on black: what is transparent holds no tissue."""
    from PIL import Image

    if "transparency" in image.info or image.mode in ("RGBA", "LA", "PA"):
        pixels = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", pixels.size, "black"), pixels).convert("RGB")
    return image.convert("RGB")
