"""One painted volume in the formats that a user's folder may hold."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int16

from medvlp.phantom.grid import Grid
from medvlp.phantom.nifti_file import write_bytes, write_nifti
from medvlp.phantom.npz_file import write_npz

Volume = Int16[np.ndarray, "d h w"]

_ROOT_UID = "1.2.826.0.1.3680043.10.1377"  # any; the instances are of no scanner
_STORED_OFFSET = 1024  # stored numbers are not negative, as scanners write them


def write_nifti_volume(path: Path, hu: Volume, grid: Grid, number: int) -> None:
    """Write a .nii.gz file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_nifti(path, hu, grid.affine())


def write_npz_volume(path: Path, hu: Volume, grid: Grid, number: int) -> None:
    """Write a .npz file, which knows nothing of its geometry."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_npz(path, image=hu)


def write_mha_volume(path: Path, hu: Volume, grid: Grid, number: int) -> None:
    """Write a MetaImage: header in words, then the voxels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    z, y, x = grid.origin_mm
    depth, height, width = hu.shape
    header = {
        "ObjectType": "Image",
        "NDims": 3,
        "BinaryData": True,
        "BinaryDataByteOrderMSB": False,
        "CompressedData": False,
        "TransformMatrix": "1 0 0 0 1 0 0 0 1",
        "Offset": f"{x} {y} {z}",  # LPS, as our millimetres are
        "CenterOfRotation": "0 0 0",
        "ElementSpacing": " ".join(str(step) for step in reversed(grid.spacing_mm)),
        "DimSize": f"{width} {height} {depth}",
        "ElementType": "MET_SHORT",
        "ElementDataFile": "LOCAL",
    }
    text = "".join(f"{key} = {value}\n" for key, value in header.items())
    write_bytes(path, text.encode() + np.ascontiguousarray(hu, dtype="<i2").tobytes())


def write_dicom_series(path: Path, hu: Volume, grid: Grid, number: int) -> None:
    """Write a folder of DICOM slices whose names are not in the order of the slices.

    Args:
        path: The folder.
        hu: Slices upwards, rows to the back, columns to the left.
        grid: Where they lie.
        number: Of the study; decides the identifiers.

    Raises:
        ImportError: If pydicom is missing.
    """
    path.mkdir(parents=True, exist_ok=True)
    for index, plane in enumerate(hu):
        instance = _instance(plane, grid, number, index)
        instance.save_as(path / slice_name(number, len(hu), index), enforce_file_format=True)


def slice_name(number: int, count: int, index: int) -> str:
    """Return the file name of a slice of `write_dicom_series`."""
    order = np.random.default_rng(number).permutation(count)
    return f"IM{order[index]:04d}.dcm"


def _instance(plane: Int16[np.ndarray, "h w"], grid: Grid, number: int, index: int) -> Any:
    try:
        from pydicom.dataset import Dataset, FileMetaDataset
        from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian
    except ImportError as error:
        raise ImportError("writing DICOM needs pydicom: pip install 'medvlp[dicom]'") from error
    z, y, x = grid.origin_mm
    step_z, step_y, step_x = grid.spacing_mm
    instance = Dataset()
    instance.file_meta = FileMetaDataset()
    instance.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    instance.file_meta.MediaStorageSOPClassUID = CTImageStorage
    instance.file_meta.MediaStorageSOPInstanceUID = UID(f"{_ROOT_UID}.{number}.1.{index + 1}")
    instance.SOPClassUID = CTImageStorage
    instance.SOPInstanceUID = instance.file_meta.MediaStorageSOPInstanceUID
    instance.StudyInstanceUID = f"{_ROOT_UID}.{number}"
    instance.SeriesInstanceUID = f"{_ROOT_UID}.{number}.1"
    instance.Modality, instance.PatientID = "CT", f"phantom {number}"
    instance.InstanceNumber, instance.SeriesNumber = index + 1, 1
    instance.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    instance.ImagePositionPatient = [_decimal(v) for v in (x, y, z + index * step_z)]
    instance.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    instance.PixelSpacing = [_decimal(step_y), _decimal(step_x)]
    instance.SliceThickness = _decimal(step_z)
    instance.RescaleIntercept, instance.RescaleSlope = -_STORED_OFFSET, 1
    instance.SamplesPerPixel, instance.PhotometricInterpretation = 1, "MONOCHROME2"
    instance.Rows, instance.Columns = plane.shape
    instance.BitsAllocated, instance.BitsStored, instance.HighBit = 16, 16, 15
    instance.PixelRepresentation = 0
    stored = np.clip(plane.astype(np.int32) + _STORED_OFFSET, 0, None)
    instance.PixelData = stored.astype("<u2").tobytes()
    return instance


def _decimal(value: float) -> str:
    return f"{value:.8g}"  # a decimal string holds 16 characters


FORMATS: tuple[tuple[str, Callable[[Path, Volume, Grid, int], None]], ...] = (
    ("étude {number:03d} - thorax/CT n° 1.nii.gz", write_nifti_volume),
    ("dicom/study {number:03d}/series 1", write_dicom_series),
    ("arrays/{number:03d}.npz", write_npz_volume),
    ("meta images/{number:03d}.mha", write_mha_volume),
)
"""Path of a scan under the root, and its writer, taken in turn."""
