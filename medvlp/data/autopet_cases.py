"""Where the files of AutoPET's cases lie, and what its metadata table says of patients."""

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from medvlp.data.records import Skip
from medvlp.data.tables import is_empty, read_table

IMAGES, MASKS = "FDG-PET-CT-Lesions", "lesion_mask"
_METADATA = "fdg_metadata.csv"
_SUBGROUPS = ("diagnosis", "age", "sex")
_PATIENT = re.compile(r"PETCT_[0-9a-z]+", re.IGNORECASE)


@dataclass(frozen=True)
class Case:
    """The files of one examination.

    Attributes:
        case_id: Its folder: "<case>", or "<patient>/<study>" as the data set is handed out.
        patient_id: Whose it is.
        image: The CT.
        companions: "pet" and "lesion_mask", those that are there.
        mask_is_numbered: Whether the mask tells lesions apart.
    """

    case_id: str
    patient_id: str
    image: Path
    companions: Mapping[str, Path]
    mask_is_numbered: bool


def find_cases(folder: Path) -> tuple[dict[str, Case], list[Skip]]:
    """Find all cases by listing folders, one or two deep.

    Args:
        folder: Holds FDG-PET-CT-Lesions/ and lesion_mask/.

    Returns:
        Cases by id in the order of their names, and what belongs to none.
    """
    masks = dict(_folders_with(folder / MASKS, "SEG_MultiLabel.nii.gz"))
    places = dict(_folders_with(folder / IMAGES, "CT.nii.gz"))
    short = Counter(case_id.rpartition("/")[2] for case_id in places)
    cases: dict[str, Case] = {}
    for case_id, place in places.items():
        # the masks' folders are named like those of the images, or by the last part alone
        last = case_id.rpartition("/")[2]
        names = (case_id, last) if short[last] == 1 else (case_id,)
        numbered = next((masks.pop(name) for name in names if name in masks), None)
        mask = numbered / "SEG_MultiLabel.nii.gz" if numbered else place / "SEG.nii.gz"
        files = {"pet": place / "SUV.nii.gz", "lesion_mask": mask}
        patient = _PATIENT.match(case_id)
        cases[case_id] = Case(
            case_id=case_id,
            patient_id=patient[0] if patient else case_id.partition("/")[0],
            image=place / "CT.nii.gz",
            companions={name: path for name, path in files.items() if path.is_file()},
            mask_is_numbered=numbered is not None,
        )
    lone = [name for name, _ in _folders_with(folder / IMAGES, "SUV.nii.gz") if name not in cases]
    skips = [Skip(f"{IMAGES}/{name}", "a PET without its CT.nii.gz") for name in lone]
    return cases, skips + [Skip(f"{MASKS}/{name}", "a mask without a case") for name in masks]


def read_metadata(folder: Path) -> dict[str, dict[str, str]]:
    """Read diagnosis, age and sex of each patient from fdg_metadata.csv, if it is there."""
    for path in (folder / _METADATA, folder / IMAGES / _METADATA):
        if path.is_file():
            return {
                row["Subject ID"].strip(): _subgroups(row)
                for row in read_table(path, ["Subject ID"])
            }
    return {}


def _subgroups(row: dict[str, str]) -> dict[str, str]:
    values = {name: row.get(name, "").strip() for name in _SUBGROUPS}
    age = re.fullmatch(r"0*(\d+)(\.0)?Y?", values["age"])
    values["age"] = age[1] if age else ""
    return {name: value for name, value in values.items() if not is_empty(value)}


def _folders_with(folder: Path, name: str, depth: int = 2) -> Iterator[tuple[str, Path]]:
    """List the folders that hold a file of this name, with their relative names."""
    if not folder.is_dir():
        return
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if not entry.is_dir():
            continue
        if os.path.isfile(os.path.join(entry.path, name)):
            yield entry.name, Path(entry.path)
        elif depth > 1:
            for below, path in _folders_with(Path(entry.path), name, depth - 1):
                yield f"{entry.name}/{below}", path
