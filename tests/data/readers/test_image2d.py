import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.uid import ComputedRadiographyImageStorage

from medvlp.data.readers.dicom_image import windowed
from medvlp.data.readers.image2d import looks_whole, read_header, read_image
from medvlp.data.readers.registry import ReadError

from .dicom_writer import add_pixels, header, voxels
from .test_dicom import SHARED, real


def grey(dtype: str = "uint8") -> np.ndarray:
    return (np.arange(6 * 8).reshape(6, 8) * (5 if dtype == "uint8" else 1200)).astype(dtype)


@pytest.mark.parametrize(
    ("name", "dtype", "bits"),
    [("x.png", "uint8", 8), ("x.png", "uint16", 16), ("x.tiff", "uint16", 16),
     ("x.tif", "float32", 32), ("x.tiff", "int32", 32), ("näme with space.bmp", "uint8", 8),
     ("wrong.jpg", "uint16", 16)],
)  # fmt: skip
def test_grey_keeps_its_depth(tmp_path: Path, name: str, dtype: str, bits: int) -> None:
    kind = "PNG" if name == "wrong.jpg" else None  # content decides, not the name
    Image.fromarray(grey(dtype)).save(tmp_path / name, format=kind)
    image = read_image(tmp_path / name)
    np.testing.assert_array_equal(image.array, grey(dtype))
    assert image.array.dtype == np.dtype(dtype) and image.bits == bits


def test_modes_are_kept_beside_the_array(tmp_path: Path) -> None:
    rgb = np.stack([grey(), grey()[::-1], grey() // 2], axis=-1)
    palette = Image.fromarray(grey() // 80)
    palette.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90] + [0] * 759)
    colours = np.array([[10, 20, 30], [40, 50, 60], [70, 80, 90], [0] * 3])
    images = {
        "1": (Image.fromarray(grey() > 100), (grey() > 100) * 255, 1),
        "P": (palette, colours[grey() // 80], 8),
        "RGB": (Image.fromarray(rgb), rgb, 8),
        "RGBA": (Image.fromarray(np.dstack([rgb, (grey() > 100) * np.uint8(255)])), None, 8),
    }  # fmt: skip
    images["RGBA"] = (images["RGBA"][0], rgb * (grey() > 100)[..., None], 8)
    for mode, (stored, expected, bits) in images.items():
        stored.save(tmp_path / "x.png")
        image = read_image(tmp_path / "x.png")
        assert (image.mode, image.image.mode, image.bits) == (mode, mode, bits)
        np.testing.assert_array_equal(image.array, expected)
        assert image.array.dtype == np.uint8


def test_cmyk_becomes_rgb(tmp_path: Path) -> None:
    Image.new("CMYK", (4, 4), (0, 255, 255, 0)).save(tmp_path / "x.tiff")
    image = read_image(tmp_path / "x.tiff")
    assert image.mode == "CMYK" and image.array[0, 0].tolist() == [255, 0, 0]


def test_exif_orientation_is_told_not_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(grey()).save(tmp_path / "x.png", exif=exif)
    with pytest.warns(UserWarning, match=r"x\.png: EXIF orientation 6"):
        image = read_image(tmp_path / "x.png")
    assert image.provenance["exif_orientation"] == 6
    np.testing.assert_array_equal(image.array, grey())


def test_damaged_exif_does_not_cost_the_image() -> None:
    out = io.BytesIO()
    Image.fromarray(grey()).save(out, "JPEG", exif=b"Exif\0\0XX*\0garbage")
    assert read_image(Path("x.jpg"), out.getvalue()).provenance["exif_orientation"] == 1


def test_a_quiet_reader_leaves_warnings_to_the_caller() -> None:
    content = png16(np.dstack([grey("uint16")] * 3))
    assert read_image(Path("x"), content, quiet=True).provenance["stored_bits"] == 16


def test_a_jpeg_is_decoded_no_smaller_than_asked_for() -> None:
    content = encoded("JPEG")  # 80 x 60
    sizes = [read_image(Path("x"), content, shorter_side=n).image.size for n in (61, 60, 30, 29, 8)]
    assert sizes == [(80, 60), (80, 60), (40, 30), (40, 30), (20, 15)]
    assert read_image(Path("x"), encoded("PNG"), shorter_side=8).image.size == (80, 60)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_whole_file_is_told_from_a_cut_one_without_decoding(kind: str) -> None:
    content = encoded(kind)
    assert looks_whole(content) and looks_whole(content + bytes(20))
    assert not looks_whole(content[:-900]) and not looks_whole(content[: len(content) // 2])
    assert not looks_whole(encoded("BMP")) and not looks_whole(b"")
    header_only = read_header(Path("x"), content)
    assert (header_only.mode, header_only.image.size) == ("L", (80, 60))
    np.testing.assert_array_equal(header_only.array, read_image(Path("x"), content).array)


@pytest.mark.parametrize("content", [b"", b"GARBAGE" * 50])
def test_a_header_is_checked_as_an_image_is(content: bytes) -> None:
    with pytest.raises(ReadError, match=r"0 bytes|not an image"):
        read_header(Path("x"), content)


def png16(array: np.ndarray) -> bytes:
    """Write a PNG with 16-bit colours, which Pillow cannot."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in array)
    start = chunk(b"IHDR", struct.pack(">IIBBBBB", array.shape[1], array.shape[0], 16, 2, 0, 0, 0))
    end = chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + start + end


def test_deep_colours_are_told(tmp_path: Path) -> None:
    deep = np.dstack([grey("uint16")] * 3)
    (tmp_path / "x.png").write_bytes(png16(deep))
    with pytest.warns(UserWarning, match="colours of 16 bits are read with 8"):
        image = read_image(tmp_path / "x.png")
    np.testing.assert_array_equal(image.array, deep >> 8)
    assert image.provenance["stored_bits"] == 16


def encoded(kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (60, 80), np.uint8)
    Image.fromarray(noise).save(out, kind, **options)
    return out.getvalue()


def bomb() -> bytes:
    data = bytearray(encoded("PNG"))
    struct.pack_into(">II", data, 16, 60_000, 60_000)
    struct.pack_into(">I", data, 29, zlib.crc32(bytes(data[12:29])))
    return bytes(data)


def nan_tiff() -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.full((2, 2), np.nan, np.float32)).save(out, "TIFF")
    return out.getvalue()


PAGE = Image.fromarray(grey())


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "0 bytes"),
        (b"GARBAGE" * 50, "not an image, or of an unknown format"),
        (encoded("PNG")[:-2000], "damaged or truncated image"),
        (encoded("JPEG")[:-900], "damaged or truncated image"),
        (encoded("TIFF")[:-900], "damaged or truncated image"),
        (encoded("BMP")[:-900], "damaged or truncated image"),
        (encoded("GIF"), "unknown format"),
        (encoded("TIFF", save_all=True, append_images=[PAGE]), "2 pages or frames"),
        (encoded("WEBP")[:-200], "damaged or truncated image"),
        (bomb(), "exceeds limit.*cut it into tiles"),
        (nan_tiff(), "NaN or infinite"),
    ],
)
def test_damaged_images_say_what_is_wrong(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(data)
    with pytest.raises(ReadError, match=message) as caught:
        read_image(path)
    assert str(path) in str(caught.value)


def save_dicom(
    path: Path, array: np.ndarray, change: Callable[[Dataset], None] = lambda data: None
) -> Path:
    data: Any = header(ComputedRadiographyImageStorage)
    data.Modality = "CR"
    add_pixels(data, array)
    change(data)
    data.save_as(path)
    return path


def with_values(**values: Any) -> Callable[[Dataset], None]:
    return lambda data: [setattr(data, name, value) for name, value in values.items()] and None


def test_dicom_window_and_inversion(tmp_path: Path) -> None:
    array = np.array([[0, 100, 150, 200, 4000]], np.uint16)
    window = {"WindowCenter": [150.5, 7], "WindowWidth": [101, 7], "BitsStored": 12, "HighBit": 11}
    image = read_image(save_dicom(tmp_path / "a", array, with_values(**window)))
    # the window's lower end is 150.5 - 0.5 - 50 = 100, its upper end 200
    assert image.array.tolist() == [[0, 0, 32768, 65535, 65535]]
    assert (image.mode, image.bits, image.provenance["window"]) == ("I;16", 12, (150.5, 101.0))
    window |= {"PhotometricInterpretation": "MONOCHROME1"}
    inverted = read_image(save_dicom(tmp_path / "b", array, with_values(**window)))
    assert inverted.array.tolist() == [[65535, 65535, 32768, 0, 0]]


def test_dicom_without_window_uses_its_range(tmp_path: Path) -> None:
    array = np.array([[-2000, 0, 50, 100]], np.int16)
    rule = with_values(PixelPaddingValue=-2000, RescaleSlope=2, RescaleIntercept=-7)
    image = read_image(save_dicom(tmp_path / "a", array, rule))
    assert image.array.tolist() == [[0, 0, 32768, 65535]]
    eight = read_image(save_dicom(tmp_path / "b", np.array([[0, 51, 255]], np.uint8)))
    assert eight.array.tolist() == [[0, 51, 255]] and eight.mode == "L"


def test_window_functions() -> None:
    values = np.array([[-1.0, 0.0, 5.0, 10.0]])
    np.testing.assert_allclose(
        windowed(values, 5.0, 10.0, kind="LINEAR_EXACT"), [[0.0, 0.0, 0.5, 1.0]]
    )
    sigmoid = windowed(values, 5.0, 10.0, kind="SIGMOID")
    np.testing.assert_allclose(sigmoid[0, 1:], [1 / (1 + np.e**2), 0.5, 1 / (1 + np.e**-2)])


def test_dicom_colours(tmp_path: Path) -> None:
    rgb = np.stack([grey(), grey()[::-1], grey() // 2], axis=-1)

    def colour(data: Any) -> None:
        data.Rows, data.Columns = 6, 8
        data.SamplesPerPixel, data.PlanarConfiguration = 3, 0
        data.PhotometricInterpretation = "RGB"

    image = read_image(save_dicom(tmp_path / "a.dcm", rgb, colour))
    np.testing.assert_array_equal(image.array, rgb)
    assert "Doe" not in repr(image)


@pytest.mark.parametrize(
    ("change", "cut", "message"),
    [
        (with_values(NumberOfFrames=5), 0, "5 frames, expected one image"),
        (with_values(Rows=9000), 0, "truncated pixel data"),
        (with_values(), 40, "truncated"),
        (with_values(PixelData=None), 0, "no pixels"),
        (with_values(Modality="SR", Rows=None), 0, "no pixels"),
    ],
)
def test_damaged_dicom_images(
    tmp_path: Path, change: Callable[[Dataset], None], cut: int, message: str
) -> None:
    path = save_dicom(tmp_path / "x.dcm", voxels(), change)
    path.write_bytes(path.read_bytes()[: -cut or None])
    with pytest.raises(ReadError, match=message) as caught:
        read_image(path)
    assert str(path) in str(caught.value)


@real
def test_real_images_of_all_kinds() -> None:
    folder = SHARED / "images_2d"
    images = {p.name: read_image(p) for p in folder.iterdir() if p.suffix not in (".csv", ".md")}
    assert len(images) == 19 and all(image.array.std() > 1 for image in images.values())
    shapes = {name: image.array.shape for name, image in images.items()}
    assert shapes["pydicom_OBXXXX1A.dcm"] == (600, 800, 3)  # palette
    assert shapes["pydicom_US1_UNCI.dcm"] == (480, 640, 3)
    assert shapes["unimed_ct_scan_right_kidney.tiff"] == (224, 224)
    radiograph = images["pydicom_RG1_J2KI.dcm"].array  # MONOCHROME1: lungs are dark when turned
    assert radiograph[700:900, 300:500].mean() < radiograph[700:900, 900:1000].mean()
