"""Which of RSNA's loose DICOM files belong to which series: read from every header, once."""

import csv
import hashlib
import io
import os
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

from medvlp.data.cache import write_atomically
from medvlp.data.engine import num_cores
from medvlp.data.readers.dicom_headers import lenient_values, read_header
from medvlp.data.tables import read_table

_TAGS = (
    "PatientID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "ImagePositionPatient",
    "BitsStored",
    "PixelRepresentation",
    "RescaleIntercept",
)
_WORTH_A_POOL = 20_000
_CHUNK = 512


class Instance(NamedTuple):
    """One slice.

    Attributes:
        image: File name without suffix, which is the name in the label table.
        patient: Hash of the patient id.
        study: Study UID.
        series: Series UID.
        height_mm: z of its position.
        fault: Why it cannot be used; empty if nothing is known against it.
    """

    image: str
    patient: str
    study: str
    series: str
    height_mm: float
    fault: str = ""


def index_instances(
    folder: Path, index: Path | None = None, *, num_workers: int | None = None
) -> list[Instance]:
    """Read the headers of all files of a folder, or the index that was made of them before.

    Args:
        folder: Holds *.dcm, and nothing in folders.
        index: CSV to read if it is there and to write if not; None reads the headers every time.
        num_workers: Processes that read; None takes one per core.

    Returns:
        By series, then by height.

    Raises:
        ValueError: If the index lists other files than the folder holds.
    """
    names = sorted(entry.name for entry in os.scandir(folder) if entry.name.endswith(".dcm"))
    if index is not None and index.is_file():
        instances = _read_index(index)
        missing = {name.removesuffix(".dcm") for name in names} ^ {i.image for i in instances}
        if missing:
            raise ValueError(
                f"{index} was made of other files: {len(missing)} differ from those in {folder}, "
                f"such as {min(missing)}; delete it, and it is made anew"
            )
        return instances
    paths = [folder / name for name in names]
    instances = sorted(_read_headers(paths, num_workers), key=lambda i: (i.series, i.height_mm))
    if index is not None:
        _write_index(index, instances)
    return instances


def read_instance(path: Path) -> Instance:
    """Read what is needed of one header; a patient's id leaves it hashed only."""
    image = path.name.removesuffix(".dcm")
    with lenient_values():  # this set's UIDs look like ID_0a1b2c3d
        try:
            header = read_header(path, _TAGS)
            patient, study, series = (str(header[name].value) for name in _TAGS[:3])
            height_mm = float(header.ImagePositionPatient[2])
            fault = _fault(header)
        except Exception as error:  # whatever a damaged file makes the parser stumble over
            reason = f"damaged header ({type(error.__cause__ or error).__name__})"
            return Instance(image, "", "", "", 0.0, reason)
    digest = hashlib.blake2b(patient.encode(), digest_size=8).hexdigest()
    return Instance(image, digest, study, series, height_mm, fault)


def _fault(header: Any) -> str:
    # Two's complement in 12 bits under an unsigned header: air reads as about 3100 HU.
    intercept = float(header.get("RescaleIntercept", 0))
    unsigned = header.get("PixelRepresentation") == 0 and header.get("BitsStored") == 12
    if unsigned and intercept > -100:
        return "signed 12-bit pixels that the header calls unsigned"
    return ""


def _read_headers(paths: list[Path], num_workers: int | None) -> Iterator[Instance]:
    workers = num_cores() if num_workers is None else num_workers
    if workers < 2 or len(paths) < _WORTH_A_POOL:
        yield from map(read_instance, _tracked(paths))
        return
    from concurrent.futures import ProcessPoolExecutor

    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        yield from _tracked(pool.map(read_instance, paths, chunksize=_CHUNK), len(paths))


def _tracked(items: Iterable[Any], total: int | None = None) -> Iterator[Any]:
    """Show rate and time left of long work only."""
    from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

    count = len(items) if isinstance(items, list) else total
    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
    progress = Progress(*columns) if (count or 0) >= _WORTH_A_POOL else None
    with progress or nullcontext():
        yield from (
            progress.track(items, count, description="Reading headers") if progress else items
        )


def _read_index(path: Path) -> list[Instance]:
    rows = read_table(path, Instance._fields)
    try:
        return [
            Instance(**{**row, "height_mm": float(row["height_mm"])})  # pyright: ignore
            for row in ({name: row[name] for name in Instance._fields} for row in rows)
        ]
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}); delete it, and it is made anew") from error


def _write_index(path: Path, instances: list[Instance]) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(Instance._fields)
    writer.writerows(instances)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, text.getvalue().encode())
