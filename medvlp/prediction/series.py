"""Which scans of a study's files are used, which are left out, and why."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from medvlp.data.readers.dicom import SeriesFacts, dicom_index
from medvlp.data.readers.dicom_headers import find_files, lenient_values, read_header
from medvlp.data.readers.registry import known_suffixes

_CT_MR = ("CT", "MR")


@dataclass(frozen=True)
class Series:
    """One scan of the study, or what might have been one.

    Attributes:
        path: File or folder, as the user gave it or below that.
        files: Those of a DICOM series; empty for other formats.
        label: For the user's eyes: file name, or series number and description. May tell who the
            patient is, so it never goes into a file.
        number: DICOM series number; 0 if there is none.
        modality: DICOM code; empty where the format does not say.
        kind: See `SeriesFacts.kind`; "file" for other formats.
        num_slices: 0 while unknown.
        left_out: Why it is not used; empty if it is.
    """

    path: Path
    files: tuple[Path, ...]
    label: str
    number: int = 0
    modality: str = ""
    kind: str = "file"
    num_slices: int = 0
    left_out: str = ""


@dataclass(frozen=True)
class Wanted:
    """Which scans are used.

    Attributes:
        modality: DICOM code that the recipe is for; None takes CT and MR.
        min_slices: Fewest slices.
        derived: Whether derived DICOM series are used as well.
    """

    modality: str | None
    min_slices: int
    derived: bool = False

    def too_few(self, num_slices: int) -> str:
        """Say that there are too few slices; empty if there are enough."""
        if num_slices >= self.min_slices:
            return ""
        return f"too few slices: {num_slices}, at least {self.min_slices} are wanted"


def find_series(paths: Sequence[Path]) -> list[Series]:
    """List everything that might be a scan: files, and the series of folders.

    Raises:
        FileNotFoundError: If a path is not there.
        ValueError: If a folder holds no scan, or files of several patients.
    """
    found: list[Series] = []
    for path in paths:
        if not path.exists():
            raise FileNotFoundError(f"there is no scan at {path}")
        found += _in_folder(path) if path.is_dir() else _of_file(path)
    _require_one_patient(found)
    return found


def choose(found: Iterable[Series], wanted: Wanted) -> list[Series]:
    """Mark what is to be left out, with the reason.

    Derived series (reformats, projections) are left out unless they are wanted, or nothing else is
    there.
    """
    marked = [replace(one, left_out=_reason(one, wanted)) for one in found]
    if wanted.derived or not any(not s.left_out and s.kind != "derived" for s in marked):
        return marked
    reason = "derived from other series"
    return [
        replace(one, left_out=reason) if one.kind == "derived" and not one.left_out else one
        for one in marked
    ]


def _reason(series: Series, wanted: Wanted) -> str:
    if series.kind not in ("file", "original", "derived"):
        return series.kind
    if series.modality and series.modality not in _CT_MR:
        return f"neither CT nor MR: {series.modality}"
    if wanted.modality and series.modality and series.modality != wanted.modality:
        return f"{series.modality}, and the model is for {wanted.modality}"
    return wanted.too_few(series.num_slices) if series.num_slices else ""


def _in_folder(folder: Path) -> list[Series]:
    endings = tuple(known_suffixes())
    files = [path for path in find_files(folder) if not path.name.startswith(".")]
    series = [_of_dicom(folder, facts) for facts in dicom_index(folder)]
    used = {path for one in series for path in one.files}
    others = [p for p in files if p not in used and p.name.lower().endswith(endings)]
    series += [Series(path, (), str(path.relative_to(folder))) for path in others]
    if not series:
        raise ValueError(
            f"{folder} holds no scan: none of its {len(files)} files is DICOM or ends in "
            f"{', '.join(endings)}"
        )
    return series


def _of_file(path: Path) -> list[Series]:
    with path.open("rb") as file:
        start = file.read(132)
    if start[128:] == b"DICM":
        return [_of_dicom(path, facts) for facts in dicom_index(path.parent, (path,))]
    return [Series(path, (), path.name)]


def _of_dicom(path: Path, facts: SeriesFacts) -> Series:
    description = f" {facts.description}" if facts.description else ""
    return Series(
        path,
        facts.files,
        f"series {facts.number}{description}",
        number=facts.number,
        modality=facts.modality,
        kind=facts.kind,
        num_slices=facts.num_images,
    )


def _require_one_patient(found: Sequence[Series]) -> None:
    """Refuse files of several patients; their ids are compared and never shown."""
    dicom = [one for one in found if one.files]
    if len(dicom) < 2:
        return
    with lenient_values():
        ids = {
            str(read_header(file, ("PatientID",)).get("PatientID") or "")
            for one in dicom
            for file in (one.files[0], one.files[-1])
        }
    if len(ids - {""}) > 1:
        folders = sorted({str(one.path) for one in dicom})
        raise ValueError(
            f"{', '.join(folders)}: the files are of {len(ids - {''})} patients (Patient ID); "
            "predict takes one study: give the folder of one patient"
        )
