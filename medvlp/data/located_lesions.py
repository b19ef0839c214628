"""Lesions of one's own, as a table beside any data set."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from medvlp.data.lesion_annotations import LesionAnnotations
from medvlp.data.lesion_places import PlaceVocabulary
from medvlp.data.lesion_table import BOX_COLUMNS
from medvlp.data.records import Skip, StudyRecord, StudySource
from medvlp.data.tables import nearest, read_table


class WithLesions(StudySource):
    """The studies of another data set with lesions and their places.

    The table has one row a lesion: `study_id`, its box as x, y, z (centre), width, height, depth
    (sides) in mm of the LPS world, `label` if the mask tells lesions apart, and the place. Lesions
    are shown on the first scan of their study. A recipe wants companions of that scan: lesion_mask,
    and pet unless it has no channel for it.

    Args:
        source: The data set, as `medvlp.data.folder.Folder`.
        table: CSV of the lesions.
        vocabulary: Name of a shipped one, or a file of places, see `medvlp.data.place_file`.
        descriptions: File of its texts, where they are a file of their own.
        place_column: Final names, joined with commas; None for a table without.
    """

    def __init__(
        self,
        source: StudySource,
        table: str,
        *,
        vocabulary: str,
        descriptions: str | None = None,
        place_column: str | None = "GT",
    ) -> None:
        self.source, self.table = source, Path(table)
        self.name, self.label_names = f"{source.name}_lesions", source.label_names
        self.vocabulary, self.descriptions = vocabulary, descriptions
        self.place_column = place_column
        self.skips: list[Skip] = []

    def materialise(self) -> None:
        """Write the raw files of the data set, if it makes itself."""
        self.source.materialise()

    def describe(self) -> dict[str, Any]:
        """State the data set and the table."""
        return {
            **self.source.describe(),
            "name": self.name,
            "lesions": str(self.table.resolve()),
            "vocabulary": self.vocabulary,
            "descriptions": self.descriptions,
            "place_column": self.place_column,
        }

    def studies(self) -> Iterator[StudyRecord]:
        """Yield all studies; those that the table does not name have no lesion."""
        places = PlaceVocabulary.load(self.vocabulary, self.descriptions)
        read = LesionAnnotations(self.table.name, self.place_column, places)
        columns = ["study_id", *BOX_COLUMNS, *([self.place_column] if self.place_column else [])]
        rows: dict[str, list[dict[str, str]]] = {}
        for row in read_table(self.table, columns):
            rows.setdefault(row["study_id"].strip(), []).append(row)
        known: list[str] = []
        for study in self.source.studies():
            known.append(study.study_id)
            own = rows.pop(study.study_id, [])
            yield replace(study, lesions=read.lesions(study.study_id, own, study.scans[0].path))
        self.skips = [*self.source.skips, *read.skips]
        for name, own in rows.items():
            reason = f"{len(own)} lesions of {self.table.name}, but no such study"
            self.skips.append(Skip(name, f"{reason}{nearest(name, known)}"))
