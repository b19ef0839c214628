"""Small DICOM series for tests, written with pydicom."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    ExplicitVRLittleEndian,
    RLELossless,
    generate_uid,
)

Change = Callable[[Dataset, int], None]


def set_all(**values: Any) -> Callable[[Dataset, int], None]:
    """Set elements in every slice; a function is given the index of the slice."""

    def change(data: Dataset, index: int) -> None:
        for name, value in values.items():
            setattr(data, name, value(index) if callable(value) else value)

    return change


def voxels(num_slices: int = 5, rows: int = 8, columns: int = 6) -> np.ndarray:
    """Axes (slices, rows, columns); every voxel has another number; raw CT, air is near 24."""
    count = num_slices * rows * columns
    return (24 + np.arange(count).reshape(num_slices, rows, columns)).astype(np.uint16)


def header(sop_class: str = CTImageStorage, series: str = "1.2.3") -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = sop_class
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    data.SOPClassUID, data.SOPInstanceUID = sop_class, meta.MediaStorageSOPInstanceUID
    data.StudyInstanceUID, data.SeriesInstanceUID = "1.2", series
    data.Modality, data.SeriesNumber, data.ImageType = "CT", 1, ["ORIGINAL", "PRIMARY", "AXIAL"]
    data.PatientName, data.PatientBirthDate, data.PatientID = "Doe^Jane", "19700101", "4711"
    return data


def add_pixels(data: Dataset, array: np.ndarray) -> None:
    data.Rows, data.Columns = array.shape[-2:]
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = array.dtype.itemsize * 8
    data.HighBit = data.BitsStored - 1
    data.PixelRepresentation = int(array.dtype.kind == "i")
    data.PixelData = array.tobytes()


def write_series(
    folder: Path,
    array: np.ndarray | None = None,
    *,
    step: tuple[float, float, float] = (0.0, 0.0, 2.5),
    change: Change = lambda data, index: None,
    compress: bool = False,
    prefix: str = "s",
    series: str = "1.2.3",
) -> Path:
    """Write an axial series, 0.8 x 0.7 mm; file names and instance numbers run against position.

    Args:
        folder: Made if need be.
        array: Axes (slices, rows, columns), lowest slice first.
        step: From one slice to the next, mm, LPS.
        change: Told each slice and its index before it is written.
        compress: RLE.
        prefix: Of the file names.
        series: Series Instance UID.
    """
    folder.mkdir(parents=True, exist_ok=True)
    array = voxels() if array is None else array
    for index, slice_ in enumerate(array):
        data: Any = header(series=series)
        data.InstanceNumber = len(array) - index
        data.ImagePositionPatient = [
            -10 + index * step[0],
            -20 + index * step[1],
            5 + index * step[2],
        ]
        data.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        data.PixelSpacing = [0.8, 0.7]
        data.RescaleSlope, data.RescaleIntercept = 1, -1024
        add_pixels(data, slice_)
        change(data, index)
        if compress:
            data.compress(RLELossless)
        data.save_as(folder / f"{prefix}{len(array) - index:03d}.dcm")
    return folder


def write_enhanced(path: Path, array: np.ndarray | None = None) -> Path:
    """Write an enhanced multi-frame CT whose frames lie in a shuffled order."""
    array = voxels() if array is None else array
    order = np.random.default_rng(0).permutation(len(array))
    data: Any = header(EnhancedCTImageStorage)
    add_pixels(data, array[order])
    data.NumberOfFrames = len(array)
    shared, measures, orientation, values = Dataset(), Dataset(), Dataset(), Dataset()
    measures.PixelSpacing = [0.8, 0.7]
    orientation.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    values.RescaleSlope, values.RescaleIntercept, values.RescaleType = 1, -1024, "HU"
    shared.PixelMeasuresSequence = Sequence([measures])
    shared.PlaneOrientationSequence = Sequence([orientation])
    shared.PixelValueTransformationSequence = Sequence([values])
    data.SharedFunctionalGroupsSequence = Sequence([shared])
    data.PerFrameFunctionalGroupsSequence = Sequence()
    for index in order:
        frame, position = Dataset(), Dataset()
        position.ImagePositionPatient = [-10, -20, 5 + 2.5 * int(index)]
        frame.PlanePositionSequence = Sequence([position])
        data.PerFrameFunctionalGroupsSequence.append(frame)
    data.save_as(path)
    return path
