"""Write the slices of a CT as DICOM files, one for each."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from medvlp.data.readers.dicom_headers import MISSING_EXTRA
from medvlp.phantom.head_scan import Lattice
from medvlp.phantom.nifti_file import write_bytes

_CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
_EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"


@dataclass(frozen=True)
class PixelStyle:
    """How a scanner stores numbers.

    Attributes:
        intercept: Added to stored numbers to get HU.
        signed: Whether they are 16-bit signed, or 12-bit unsigned.
        wrapped: Store negative numbers in two's complement of 12 bits all the same: a fault.
    """

    intercept: int = -1024
    signed: bool = False
    wrapped: bool = False

    def stored(self, hu: Float[np.ndarray, "h w"]) -> np.ndarray:
        """Turn HU into stored numbers."""
        values = np.rint(np.clip(hu, -1024, 3071)) - self.intercept
        if self.signed:
            return values.astype(np.int16)
        whole = values.astype(np.int32)
        return (whole % 4096 if self.wrapped else np.clip(whole, 0, 4095)).astype(np.uint16)


@dataclass(frozen=True)
class SliceFile:
    """One file to write.

    Attributes:
        name: Of the file.
        uid: SOP Instance UID.
        index: Of the slice in the volume.
    """

    name: str
    uid: str
    index: int


@dataclass(frozen=True)
class SeriesHeader:
    """What the files of a series have in common.

    Attributes:
        patient: Id.
        study: UID.
        series: UID.
        style: How numbers are stored.
        elements: Further elements by keyword.
        number_instances: Whether each file says its InstanceNumber.
    """

    patient: str
    study: str
    series: str
    style: PixelStyle
    elements: Mapping[str, Any] = field(default_factory=dict)
    number_instances: bool = False


def write_series(
    folder: Path,
    hu: Float[np.ndarray, "d h w"],
    where: Lattice,
    header: SeriesHeader,
    slices: Sequence[SliceFile],
) -> None:
    """Write the named slices of a volume.

    Args:
        folder: Must exist.
        hu: The volume.
        where: Its lattice; slices may be sheared, as after a gantry tilt.
        header: Of all files.
        slices: What to write: a slice may be left out, or written twice.

    Raises:
        ImportError: If pydicom is missing.
    """
    try:
        from pydicom import config, dcmwrite
        from pydicom.uid import UID
    except ImportError as error:
        raise ImportError(MISSING_EXTRA) from error
    with config.disable_value_validation():  # some sets have UIDs that are none
        dataset = _shared(header)
        for part in slices:
            dataset.file_meta.MediaStorageSOPInstanceUID = UID(part.uid)
            dataset.SOPInstanceUID = part.uid
            if header.number_instances:
                dataset.InstanceNumber = part.index + 1
            _place(dataset, where, part.index)
            _set_pixels(dataset, hu[part.index], header.style)
            buffer = io.BytesIO()
            dcmwrite(buffer, dataset, enforce_file_format=True)
            write_bytes(folder / part.name, buffer.getvalue())


def _shared(header: SeriesHeader) -> Any:
    """Start a dataset with what all slices have in common."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import UID

    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = UID(_CT_IMAGE)
    dataset.file_meta.TransferSyntaxUID = UID(_EXPLICIT_LITTLE)
    dataset.Modality = "CT"
    dataset.PatientID = header.patient
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = header.study, header.series
    for keyword, value in header.elements.items():
        setattr(dataset, keyword, value)
    return dataset


def _place(dataset: Any, where: Lattice, index: int) -> None:
    # DICOM's x and y run to the patient's left and back, NIfTI's the other way
    affine = where.affine.copy()
    affine[:2] *= -1
    position = affine[:3, 3] + index * affine[:3, 2]
    directions = affine[:3, :2] / np.linalg.norm(affine[:3, :2], axis=0)
    dataset.ImagePositionPatient = [f"{value:.6f}" for value in position]
    dataset.ImageOrientationPatient = [f"{value:.6f}" for value in directions.T.ravel()]
    _, height, width = where.spacing_mm
    dataset.PixelSpacing = [f"{height:.6f}", f"{width:.6f}"]


def _set_pixels(dataset: Any, hu: Float[np.ndarray, "h w"], style: PixelStyle) -> None:
    pixels = style.stored(hu)
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.BitsAllocated = 16
    dataset.BitsStored = 16 if style.signed else 12
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(style.signed)
    dataset.WindowCenter, dataset.WindowWidth = "40", "80"
    dataset.RescaleIntercept, dataset.RescaleSlope = str(style.intercept), "1"
    dataset.PixelData = pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()
