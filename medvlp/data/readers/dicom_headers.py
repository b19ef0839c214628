"""What the headers of DICOM files say: which files are one series, and what kind of series it is.

Names, birth dates and other elements that tell who the patient is are not read.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medvlp.data.readers.registry import ReadError

MISSING_EXTRA = "DICOM needs pydicom and a decoder: pip install 'medvlp[dicom]'"

_MAGIC_OFFSET, _MAGIC = 128, b"DICM"
_SUFFIXES = {".dcm", ".dicom", ".ima"}
TAGS = (
    "AcquisitionNumber", "BitsAllocated", "BitsStored", "Columns", "GantryDetectorTilt",
    "ImageOrientationPatient", "ImagePositionPatient", "ImageType", "Modality", "NumberOfFrames",
    "PerFrameFunctionalGroupsSequence", "PhotometricInterpretation", "PixelPaddingRangeLimit",
    "PixelPaddingValue", "PixelRepresentation", "PixelSpacing", "RescaleIntercept", "RescaleSlope",
    "Rows", "SOPClassUID", "SOPInstanceUID", "SamplesPerPixel", "SeriesDescription",
    "SeriesInstanceUID", "SeriesNumber", "SharedFunctionalGroupsSequence", "StudyInstanceUID",
)  # fmt: skip
_NO_SCAN = {
    "SEG": "segmentation",
    "RTSTRUCT": "set of contours",
    "RTDOSE": "dose distribution",
    "RTPLAN": "treatment plan",
    "SR": "structured report, such as a dose report",
    "KO": "selection of key images",
    "PR": "presentation state",
    "DOC": "document",
    "REG": "registration",
}
_DIRECTORY = "1.2.840.10008.1.3.10"  # DICOMDIR, a table of contents
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"


@dataclass(frozen=True)
class SeriesFacts:
    """One series of a folder.

    Attributes:
        series_uid: Series Instance UID.
        study_uid: Study Instance UID.
        modality: "CT", "MR"; "SEG", "SR" and the like for what is no image.
        description: Series description: free text of the scanner's operator.
        kind: "original", "derived", "localizer", "secondary capture", or, for what is no scan,
            what it is.
        number: Series number; 0 if there is none.
        num_images: Slices: files, or frames of a multi-frame file.
        files: In the order of their names.
    """

    series_uid: str
    study_uid: str
    modality: str
    description: str
    kind: str
    number: int
    num_images: int
    files: tuple[Path, ...]

    @property
    def is_scan(self) -> bool:
        """Whether this can be a volume: an image that was reconstructed, not drawn or planned."""
        return self.kind in ("original", "derived")

    def __str__(self) -> str:
        description = f" {self.description!r}" if self.description else ""
        images = f"{self.num_images} image{'' if self.num_images == 1 else 's'}"
        return f"series {self.number}{description} ({self.modality}, {self.kind}, {images})"


def dicom_index(folder: Path, files: Sequence[Path] = ()) -> list[SeriesFacts]:
    """List the series of a folder and of the folders in it, from the headers alone.

    Args:
        folder: Searched if no `files` are given; files that are not DICOM are passed over.
        files: Only these.

    Returns:
        In the order of series number, then of UID.

    Raises:
        ImportError: If pydicom is missing.
        ReadError: If a file that should be DICOM is damaged, a link leads nowhere or in a circle.
    """
    with lenient_values():
        return series_of(read_headers(files or find_files(folder), strict=bool(files)))


def series_of(headers: Iterable[tuple[Path, Any]]) -> list[SeriesFacts]:
    """Group headers by series; see `dicom_index`."""
    groups: dict[str, list[tuple[Path, Any]]] = {}
    for path, header in headers:
        # where UIDs were stripped, what lies in one folder under one number is one series
        uid = header.get("SeriesInstanceUID") or f"{path.parent} {header.get('SeriesNumber')}"
        groups.setdefault(str(uid), []).append((path, header))
    series = [_facts(group) for group in groups.values()]
    return sorted(series, key=lambda facts: (facts.number, facts.series_uid, facts.files))


def read_headers(files: Iterable[Path], *, strict: bool) -> Iterator[tuple[Path, Any]]:
    """Yield the header of every file that is DICOM. See `lenient_values`.

    Args:
        files: In any order.
        strict: Whether a file that is not DICOM is an error; one with a DICOM suffix always is.

    Raises:
        ReadError: If a file is empty, damaged, or should be DICOM and is not.
    """
    for path in files:
        if path.stat().st_size == 0:
            raise ReadError(f"{path}: the file has 0 bytes; fetch the series again")
        if _is_dicom(path):
            header = read_header(path)
            if header.file_meta.get("MediaStorageSOPClassUID") != _DIRECTORY:
                yield path, header
        elif strict or path.suffix.lower() in _SUFFIXES:
            raise ReadError(f"{path}: not a DICOM file, or damaged: 'DICM' is not at byte 128")


@contextmanager
def lenient_values() -> Iterator[None]:
    """Take values as they are, such as UIDs that are none: pydicom would warn of each of them.

    Values are converted when they are first looked at: that, too, belongs in here.

    Raises:
        ImportError: If pydicom is missing.
    """
    try:
        from pydicom import config
    except ImportError as error:
        raise ImportError(MISSING_EXTRA) from error
    with config.disable_value_validation():
        yield


def read_header(path: Path, tags: Sequence[str] = TAGS) -> Any:
    """Read some elements of a file; never the pixels. See `lenient_values`.

    Raises:
        ReadError: If the header is damaged.
    """
    from pydicom import dcmread

    try:
        header = dcmread(path, stop_before_pixels=True, specific_tags=list(tags))
    except Exception as error:  # whatever a damaged file makes the parser stumble over
        raise ReadError(f"{path}: damaged DICOM header: {error or type(error).__name__}") from error
    if not len(header) and header.file_meta.get("MediaStorageSOPClassUID") != _DIRECTORY:
        raise ReadError(f"{path}: damaged DICOM header: nothing follows its first bytes")
    return header


def find_files(folder: Path) -> list[Path]:
    """List all files under a folder, links followed, in the order of their names.

    Raises:
        ReadError: If a link leads nowhere, or back to a folder above it.
    """
    found: list[Path] = []
    for parent, folders, names in os.walk(folder, followlinks=True):
        folders.sort()
        above = {Path(parent).resolve(), *Path(parent).resolve().parents}
        for name in folders:
            link = Path(parent, name)
            if link.is_symlink() and link.resolve() in above:
                raise ReadError(f"{folder}: the link {link} leads back to a folder above it")
        for path in (Path(parent, name) for name in sorted(names)):
            if not path.is_file():
                raise ReadError(f"{folder}: {path} is a link that leads nowhere, or no plain file")
            found.append(path)
    return found


def kind_of(header: Any) -> str:
    """Say what a DICOM object is, see `SeriesFacts.kind`."""
    modality, sop_class = (str(header.get(name) or "") for name in ("Modality", "SOPClassUID"))
    if modality in _NO_SCAN:
        return _NO_SCAN[modality]
    if not header.get("Rows") or not header.get("Columns"):
        return "object without an image"
    image_type = [str(value).upper() for value in header.get("ImageType") or []]
    if "LOCALIZER" in image_type or "SCOUT" in image_type:
        return "localizer"
    if sop_class.startswith(_SECONDARY_CAPTURE):
        return "secondary capture"
    return "derived" if image_type[:1] == ["DERIVED"] else "original"


def _facts(group: list[tuple[Path, Any]]) -> SeriesFacts:
    first = group[0][1]
    kinds = [kind_of(header) for _, header in group]
    return SeriesFacts(
        series_uid=str(first.get("SeriesInstanceUID", "")),
        study_uid=str(first.get("StudyInstanceUID", "")),
        modality=str(first.get("Modality") or "unknown modality"),
        description=str(first.get("SeriesDescription") or "").strip(),
        kind=max(set(kinds), key=kinds.count),
        number=int(first.get("SeriesNumber") or 0),
        num_images=sum(int(header.get("NumberOfFrames") or 1) for _, header in group),
        files=tuple(sorted(path for path, _ in group)),
    )


def _is_dicom(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(_MAGIC_OFFSET + len(_MAGIC))[_MAGIC_OFFSET:] == _MAGIC
