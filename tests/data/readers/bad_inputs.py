"""Writes damaged inputs of every kind; see the table in test_bad_input_table."""

import gzip
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import SimpleITK as sitk
import torch

from ..conftest import raw_chest
from .dicom_writer import header, write_series

Build = Callable[[Path], Path]
"""Writes an input beneath a folder of its own and returns what the table names."""

AFFINE = np.diag([-1.0, -1.5, 2.0, 1.0])


def chest() -> np.ndarray:
    """HU, axes (i, j, k)."""
    return (raw_chest(0).astype(np.int16) - 1024).astype(np.int16)


def nifti(
    array: np.ndarray | None = None, affine: np.ndarray = AFFINE, name: str = "x.nii.gz"
) -> Build:
    def build(folder: Path) -> Path:
        nib.save(nib.Nifti1Image(chest() if array is None else array, affine), folder / name)
        return folder / name

    return build


def patched(offset: int, format: str, *values: Any, name: str = "x.nii") -> Build:
    """Overwrite part of the header of a sound file."""

    def build(folder: Path) -> Path:
        path = nifti(name="x.nii")(folder)
        data = bytearray(path.read_bytes())
        struct.pack_into(format, data, offset, *values)
        path = path.rename(folder / name)
        path.write_bytes(gzip.compress(bytes(data)) if name.endswith(".gz") else bytes(data))
        return path

    return build


def changed(build: Build, change: Callable[[bytes], bytes]) -> Build:
    def rebuild(folder: Path) -> Path:
        path = build(folder)
        path.write_bytes(change(path.read_bytes()))
        return path

    return rebuild


def file(name: str, data: bytes) -> Build:
    def build(folder: Path) -> Path:
        (folder / name).write_bytes(data)
        return folder / name

    return build


def dicom(spoil: Callable[[Path], object] = lambda folder: None, **options: Any) -> Build:
    def build(folder: Path) -> Path:
        write_series(folder / "series", **options)
        spoil(folder / "series")
        return folder / "series"

    return build


def dicom_object(sop_class: str, modality: str) -> Build:
    def build(folder: Path) -> Path:
        data: Any = header(sop_class)
        data.Modality = modality
        data.save_as(folder / "x.dcm")
        return folder / "x.dcm"

    return build


def without_decoder(folder: Path) -> None:
    for path in folder.iterdir():
        old, new = b"1.2.840.10008.1.2.5\0", b"1.2.840.10008.1.2.9\0"
        path.write_bytes(path.read_bytes().replace(old, new))


def cut(path: Path, num_bytes: int) -> None:
    path.write_bytes(path.read_bytes()[:-num_bytes])


def metaimage(name: str, old: str, new: str) -> Build:
    def build(folder: Path) -> Path:
        sitk.WriteImage(sitk.GetImageFromArray(chest()), str(folder / name))
        (folder.parent / "x.raw").write_bytes(bytes(9999))
        data = (folder / name).read_bytes()
        assert data.count(old.encode()) == 1
        (folder / name).write_bytes(data.replace(old.encode(), new.encode()))
        return folder / name

    return build


def link(target: Callable[[Path], Path], name: str = "x.nii.gz") -> Build:
    def build(folder: Path) -> Path:
        (folder / name).symlink_to(target(folder))
        return folder / name

    return build


def tensor(value: object) -> Build:
    def build(folder: Path) -> Path:
        torch.save(value, folder / "x.pt")
        return folder / "x.pt"

    return build


def named(path: Path) -> Build:
    return lambda folder: path


def array_file(array: np.ndarray) -> Build:
    def build(folder: Path) -> Path:
        np.save(folder / "x.npy", array)
        return folder / "x.npy"

    return build


def streams(data: bytes) -> bytes:
    plain = gzip.decompress(data)
    return gzip.compress(plain[:400]) + gzip.compress(plain[400:]) + bytes(8)


def bad_voxel(value: float) -> np.ndarray:
    array = chest().astype(np.float32)
    array[0, 0, 0] = value
    return array


def sheared() -> np.ndarray:
    affine = AFFINE.copy()
    affine[1, 2] = 0.7
    return affine


class Evil:
    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return (exec, ("raise SystemExit('code of a file was run')",))
