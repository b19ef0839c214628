"""What a data set is made of: studies with scans, texts and labels, and what was left out."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medvlp.data.readers.registry import Irregular
from medvlp.data.scan import Rescale
from medvlp.types import Spacing3D

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class ScanRecord:
    """One volume of a study, not read yet.

    A data set whose headers are not to be trusted states the facts itself; None leaves them to
    the file.

    Attributes:
        scan_id: Unique in the data set.
        path: The file or folder to read.
        modality: DICOM code: "CT", "MR".
        spacing_mm: Voxel distance along (d, h, w) of the array as stored.
        rescale: Rule from stored numbers to HU, in place of the header's.
        orientation: Letters of the array as stored, see `Scan.orientation`.
        files: The scan's own files where `path` is a folder that holds others too.
        irregular: "refuse" a DICOM series that is tilted or unevenly spaced, or "correct" it.
        stack: Whether the file may hold several channels of one volume, as diffusion series do:
            the fourth axis of a NIfTI file. Without it, such a file is refused.
        companions: Volumes that belong to the scan, by field name: "anatomy_mask", "pet",
            "lesion_mask". Each may have a grid of its own.
        arrays: NumPy files that belong to the scan and are no volumes, by field name:
            "slice_features".
    """

    scan_id: str
    path: Path
    modality: str = "CT"
    spacing_mm: Spacing3D | None = None
    rescale: Rescale | None = None
    orientation: str | None = None
    files: tuple[Path, ...] = ()
    irregular: Irregular = "refuse"
    stack: bool = False
    companions: Mapping[str, Path] = field(default_factory=dict)
    arrays: Mapping[str, Path] = field(default_factory=dict)


@dataclass(frozen=True)
class Question:
    """A question about a study, for visual question answering.

    Attributes:
        question: As it is put to the model.
        answer: The true answer.
        kind: What is asked for, in the data set's own word: "location", "presence".
        choices: All possible answers of a closed question.
        subject: What it is after, such as an abnormality, so that it can be put in other words.
    """

    question: str
    answer: str
    kind: str = ""
    choices: tuple[str, ...] = ()
    subject: str = ""


@dataclass(frozen=True)
class Lesion:
    """A lesion of a study and where it is.

    Attributes:
        lesion_id: Unique in the study.
        box_mm: Centre x, y, z and full sides along x, y, z, in mm of the LPS world (ITK, DICOM).
        label: Its value in the lesion mask; 0 if the mask does not tell lesions apart.
        place: Final name of the place; empty if unknown.
        coarse: Word of the coarse place.
        fine: Word of the fine place within it.
    """

    lesion_id: str
    box_mm: tuple[float, float, float, float, float, float]
    label: int = 0
    place: str = ""
    coarse: str = ""
    fine: str = ""


@dataclass(frozen=True)
class StudyRecord:
    """What one report describes: one or more scans.

    Attributes:
        study_id: Unique in the data set.
        patient_id: Studies of one patient never fall into different splits.
        split: "train", "val" or "test".
        scans: At least one.
        texts: Section name ("findings", "impression", "report") to text; empty ones are absent.
        labels: Label name to 1 present, 0 absent, -1 unknown.
        metadata: Sex, age, scanner and the like for subgroup tables; never a name or birth date.
        questions: With their answers.
        lesions: With their places.
    """

    study_id: str
    patient_id: str
    split: str
    scans: tuple[ScanRecord, ...]
    texts: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, int] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    questions: tuple[Question, ...] = ()
    lesions: tuple[Lesion, ...] = ()


@dataclass(frozen=True)
class Skip:
    """Something that was left out or changed on the way, and why: nothing is passed over silently.

    Attributes:
        id: Path, volume name or study id.
        reason: A sentence for the user.
    """

    id: str
    reason: str


class StudySource(ABC):
    """A data set: where its studies come from. One file per data set.

    Attributes:
        name: Names the cache folder; letters, digits, `_` and `-`.
        label_names: The order of the labels in a batch.
        skips: What `studies()` left out, filled while it is iterated.
    """

    name: str
    label_names: tuple[str, ...]
    skips: list[Skip]

    def materialise(self) -> None:  # noqa: B027 - most data sets are simply there
        """Write the raw files if the data set makes itself; does nothing by default."""

    def describe(self) -> dict[str, Any]:
        """State in JSON types which data set this is, so that a manifest of another is noticed."""
        return {"name": self.name}

    @abstractmethod
    def studies(self) -> Iterator[StudyRecord]:
        """Read the tables and yield every study; start `skips` afresh.

        Raises:
            FileNotFoundError: If the data set is not there, with where to get it.
            ValueError: If a table lacks what it must have.
        """
