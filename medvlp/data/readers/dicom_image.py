"""Single-frame DICOM images (radiographs, ultrasound, one slice) as they are meant to be seen."""

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Shaped

from medvlp.data.readers.dicom_frames import require_decodable
from medvlp.data.readers.dicom_headers import MISSING_EXTRA, kind_of
from medvlp.data.readers.registry import ReadError

if TYPE_CHECKING:
    from PIL.Image import Image

_PALETTE = [
    f"{segmented}{colour}PaletteColorLookupTable{what}"
    for colour in ("Red", "Green", "Blue")
    for segmented, what in (("", "Descriptor"), ("", "Data"), ("Segmented", "Data"))
]
_TAGS = [
    "BitsAllocated", "BitsStored", "Columns", "HighBit", "ImageType", "Modality",
    "ModalityLUTSequence", "NumberOfFrames", "PhotometricInterpretation", "PixelData",
    "PixelPaddingValue", "PixelRepresentation", "PlanarConfiguration", "RescaleIntercept",
    "RescaleSlope", "Rows", "SOPClassUID", "SamplesPerPixel", "VOILUTFunction", "VOILUTSequence",
    "WindowCenter", "WindowWidth", *_PALETTE,
]  # fmt: skip


def read_dicom_image(path: Path, content: bytes) -> tuple["Image", dict[str, Any]]:
    """Read a single frame: modality rule, then the file's first window; white is bright.

    `path` is for messages. Grey of more than 8 bits becomes 16-bit grey over the window's whole
    width; without a window over the range of the values, padding left out. Colours become 8-bit
    RGB.

    Returns:
        A Pillow image in mode "L", "I;16" or "RGB", and what is known of it.

    Raises:
        ImportError: If pydicom is missing.
        ReadError: If it is no image, has several frames, is damaged, or cannot be decoded.
    """
    from PIL import Image

    data = _read(path, content)
    if not all(data.get(name) for name in ("Rows", "Columns", "PixelData")):
        raise ReadError(f"{path}: no pixels: {kind_of(data)} ({data.get('Modality', 'unknown')})")
    frames = int(data.get("NumberOfFrames") or 1)
    if frames > 1:
        raise ReadError(f"{path}: {frames} frames, expected one image; split it, or read a volume")
    require_decodable(path, data, len(content))
    facts = {
        "reader": "dicom",
        "modality": str(data.get("Modality", "")),
        "photometric": str(data.get("PhotometricInterpretation", "")),
        "bits": int(data.get("BitsStored") or 8),
    }
    try:
        array, facts["window"] = _display(data)
    except Exception as error:  # each decoder has errors of its own
        raise ReadError(
            f"{path}: damaged or truncated pixel data: {error}; fetch it again"
        ) from error
    return Image.fromarray(array), facts


def _read(path: Path, content: bytes) -> Any:
    try:
        from pydicom import dcmread
        from pydicom.config import disable_value_validation
    except ImportError as error:
        raise ImportError(MISSING_EXTRA) from error
    try:
        with disable_value_validation():
            return dcmread(io.BytesIO(content), specific_tags=list(_TAGS))
    except Exception as error:  # whatever a damaged file makes the parser stumble over
        raise ReadError(f"{path}: damaged or truncated DICOM file: {error}") from error


def _display(data: Any) -> tuple[Shaped[np.ndarray, "h w *c"], tuple[float, float] | None]:
    from pydicom.pixels.processing import apply_color_lut, apply_modality_lut
    from pydicom.pixels.utils import pixel_array

    stored = pixel_array(data)  # YBR comes as RGB
    photometric = str(data.get("PhotometricInterpretation", ""))
    if photometric == "PALETTE COLOR":
        stored = apply_color_lut(stored, data)
    if stored.ndim == 3:
        deep = stored.dtype.itemsize > 1
        return (stored >> 8 if deep else stored).astype(np.uint8), None
    values = apply_modality_lut(stored, data).astype(np.float64)
    grey, window = _grey(values, stored, data)
    if photometric == "MONOCHROME1":
        grey = 1.0 - grey
    dtype = np.dtype(np.uint16 if int(data.get("BitsStored") or 8) > 8 else np.uint8)
    return np.round(grey * np.iinfo(dtype).max).astype(dtype), window


def _grey(
    values: Float[np.ndarray, "h w"], stored: Shaped[np.ndarray, "h w"], data: Any
) -> tuple[Float[np.ndarray, "h w"], tuple[float, float] | None]:
    """Scale to [0, 1] by the first window, else by the first lookup table, else by the range."""
    from pydicom.pixels.processing import apply_voi

    center, width = _first(data.get("WindowCenter")), _first(data.get("WindowWidth"))
    if center is not None and width is not None and width > 0:
        kind = str(data.get("VOILUTFunction") or "LINEAR")
        return windowed(values, center, width, kind=kind), (center, width)
    table = data.get("VOILUTSequence")
    if table:
        largest = 2 ** int(table[0].LUTDescriptor[2]) - 1
        shown = apply_voi(values.round().astype(np.int64), data) / largest
        return np.clip(shown, 0.0, 1.0), None
    padding = data.get("PixelPaddingValue")
    inside = values if padding is None else values[stored != int(padding)]
    low, high = (float(inside.min()), float(inside.max())) if inside.size else (0.0, 0.0)
    return np.clip((values - low) / max(high - low, 1e-9), 0.0, 1.0), None


def windowed(
    values: Float[np.ndarray, "h w"], center: float, width: float, *, kind: str = "LINEAR"
) -> Float[np.ndarray, "h w"]:
    """Scale a window to [0, 1] (DICOM PS3.3, C.11.2.1.2).

    Args:
        values: After the modality rule.
        center: Of the window.
        width: Of the window.
        kind: "LINEAR", whose ends lie on whole numbers, "LINEAR_EXACT", or "SIGMOID".

    >>> windowed(np.array([[-0.5, 49.0, 99.5, 200.0]]), 50.0, 100.0).round(3).tolist()
    [[0.0, 0.495, 1.0, 1.0]]
    """
    if kind == "SIGMOID":
        return 1.0 / (1.0 + np.exp(-4.0 * (values - center) / width))
    if kind == "LINEAR":
        center, width = center - 0.5, max(width - 1.0, 1e-9)
    return np.clip((values - center) / width + 0.5, 0.0, 1.0)


def _first(value: Any) -> float | None:
    """Take the first of several windows."""
    if value is None or value == "":
        return None
    return float(value if isinstance(value, (int, float, str)) else value[0])
