"""AutoPET: 1,014 whole-body FDG-PET/CTs (Gatidis et al., Scientific Data 2022), lesions by HCL-AL.

Images: FDG-PET-CT-Lesions, DICOM at The Cancer Imaging Archive (doi 10.7937/gkr0-xv29), NIfTI at
fdat.uni-tuebingen.de (record wf9fy-txq84); stated as CC BY-NC 4.0 or CC BY 4.0, depending on who
hands it out. Lesion masks, boxes and places: release v1.0.0-annotations of
github.com/HerrBaum-YR/HCL-AL (Gao et al., IEEE TMI 2025).
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from medvlp.data.autopet_cases import Case, find_cases, read_metadata
from medvlp.data.lesion_annotations import LesionAnnotations
from medvlp.data.lesion_places import PlaceVocabulary
from medvlp.data.lesion_table import BOX_COLUMNS
from medvlp.data.records import SPLITS, ScanRecord, Skip, StudyRecord, StudySource
from medvlp.data.tables import is_empty, read_table

Row = dict[str, str]

_VOCABULARY = "anatomy_vocabulary_library.json"
_DESCRIPTIONS = "augmented_location_descriptions.json"


class AutoPET(StudySource):
    """CT, PET (SUV) and numbered lesion mask of each case, and its lesions with their places.

    A lesion may have several places: `Lesion.place`, `coarse` and `fine` are then lists joined
    with commas, as in the table; names hold none. Cases that the table does not list have no
    lesion. Patients go to "train" or "test" by the table's column `split` if it has one, else by
    a hash of their id: the paper's division is not published.

    Args:
        root: Folder that holds FDG-PET-CT-Lesions/, lesion_mask/ and the table, or whose folder
            data/ does.
        vocabulary: Name of a shipped one, or a file of places, see `medvlp.data.place_file`; None
            takes anatomy_vocabulary_library.json of `root`, with the texts in
            augmented_location_descriptions.json if it is there; else lesions have names only.
        descriptions: File of its texts, where they are a file of their own.
        annotations: Table of the lesions, relative to `root`: image_path, x, y, z (centre),
            width, height, depth (sides), in mm of the LPS world.
        place_column: Final names, joined with commas; None for a table without (bbox.csv).
        test_fraction: Share of the patients that is held out where there is no column `split`.
    """

    name = "autopet"
    label_names: tuple[str, ...] = ()

    def __init__(
        self,
        root: str,
        *,
        vocabulary: str | None = None,
        descriptions: str | None = None,
        annotations: str = "anno.csv",
        place_column: str | None = "GT",
        test_fraction: float = 0.2,
    ) -> None:
        if not 0 <= test_fraction <= 1:
            raise ValueError(f"test_fraction is {test_fraction}, expected 0 to 1")
        self.root = Path(root)
        self.vocabulary, self.descriptions = vocabulary, descriptions
        self.annotations, self.place_column = annotations, place_column
        self.test_fraction = test_fraction
        self.skips: list[Skip] = []

    def describe(self) -> dict[str, Any]:
        """State where the data set lies and how it is read."""
        return {
            "name": self.name,
            "root": str(self.root.resolve()),
            "vocabulary": self.vocabulary,
            "descriptions": self.descriptions,
            "annotations": self.annotations,
            "place_column": self.place_column,
            "test_fraction": self.test_fraction,
        }

    def places(self) -> PlaceVocabulary | None:
        """Read the vocabulary; None if there is none."""
        if self.vocabulary:
            return PlaceVocabulary.load(self.vocabulary, self.descriptions)
        tree, texts = (self._folder() / name for name in (_VOCABULARY, _DESCRIPTIONS))
        if self.descriptions:
            texts = Path(self.descriptions)
        elif not texts.is_file():
            texts = None
        return PlaceVocabulary.read(tree, texts) if tree.is_file() else None

    def studies(self) -> Iterator[StudyRecord]:
        """Yield all cases in the order of their names."""
        self.skips.clear()
        folder, places = self._folder(), self.places()
        cases, skips = find_cases(folder)
        self.skips += skips
        columns = ["image_path", *BOX_COLUMNS, *([self.place_column] if self.place_column else [])]
        read = LesionAnnotations(self.annotations, self.place_column, places)
        broken: list[str] = []
        rows = self._by_case(read_table(folder / self.annotations, columns, broken=broken), cases)
        self.skips += [Skip(self.annotations, reason) for reason in broken]
        splits = _stated_splits(self.annotations, rows, cases)
        metadata = read_metadata(folder)
        for case_id, case in cases.items():
            lesions = read.lesions(case_id, rows.get(case_id, []), case.image)
            if lesions and not case.mask_is_numbered:
                what = "the binary SEG.nii.gz" if "lesion_mask" in case.companions else "none"
                reason = f"{len(lesions)} lesions, but no SEG_MultiLabel.nii.gz: {what} instead"
                self.skips.append(Skip(case_id, reason))
            scan = ScanRecord(case_id, case.image, companions=case.companions)
            yield StudyRecord(
                study_id=case_id,
                patient_id=case.patient_id,
                split=splits.get(case.patient_id) or split_of(case.patient_id, self.test_fraction),
                scans=(scan,),
                metadata=metadata.get(case.patient_id, {}),
                lesions=lesions,
            )
        self.skips += read.skips

    def _folder(self) -> Path:
        for folder in (self.root, self.root / "data"):
            if (folder / "FDG-PET-CT-Lesions").is_dir():
                return folder
        raise FileNotFoundError(
            f"no AutoPET under {self.root}: expected FDG-PET-CT-Lesions/<case>/{{CT,SUV}}.nii.gz, "
            "lesion_mask/<case>/SEG_MultiLabel.nii.gz and anno.csv. Images: TCIA collection "
            "FDG-PET-CT-Lesions (doi 10.7937/gkr0-xv29), as NIfTI at "
            "fdat.uni-tuebingen.de/records/wf9fy-txq84 (CC BY-NC 4.0 or CC BY 4.0, see your "
            "source); masks and tables: release v1.0.0-annotations of "
            "github.com/HerrBaum-YR/HCL-AL. Or write a small twin with: "
            "python -m medvlp.phantom autopet DIR"
        )

    def _by_case(self, rows: list[Row], cases: dict[str, Case]) -> dict[str, list[Row]]:
        """Group rows by the folder of their image; no path is ever built from the table."""
        ids: dict[str, str | None] = {}
        for case_id in cases:
            for alias in {case_id, case_id.rpartition("/")[2]}:
                ids[alias] = None if alias in ids else case_id
        grouped: dict[str, list[Row]] = {}
        lost: dict[str, int] = {}
        for row in rows:
            parts = PurePosixPath(row["image_path"].replace("\\", "/")).parts[:-1]
            found = ids.get("/".join(parts[-2:])) or ids.get("/".join(parts[-1:]))
            if found is None:
                lost[row["image_path"]] = lost.get(row["image_path"], 0) + 1
            else:
                grouped.setdefault(found, []).append(row)
        for path, count in lost.items():
            reason = f"{count} lesions of {self.annotations}, but no such case, or several"
            self.skips.append(Skip(path, reason))
        return grouped


def split_of(patient_id: str, test_fraction: float) -> str:
    """Put a patient into "test" or "train" by a hash of the id.

    A hash of its own: by that of `Splits` no training patient would be left for validation.
    """
    digest = hashlib.blake2b(patient_id.encode(), digest_size=8, person=b"autopet").digest()
    return "test" if int.from_bytes(digest, "big") / 2**64 < test_fraction else "train"


def _stated_splits(
    table: str, rows: dict[str, list[Row]], cases: dict[str, Case]
) -> dict[str, str]:
    """Read the column `split`, where there is one, for patients."""
    splits: dict[str, str] = {}
    for case_id, lesions in rows.items():
        patient = cases[case_id].patient_id
        for row in lesions:
            split = row.get("split", "").strip()
            if is_empty(split):
                continue
            if split not in SPLITS or splits.setdefault(patient, split) != split:
                raise ValueError(
                    f"{table} puts {case_id} into the split {split!r}, and patient {patient} into "
                    f"{splits.get(patient, 'none')!r}: expected one of {', '.join(SPLITS)} for "
                    "all lesions of a patient"
                )
    return splits
