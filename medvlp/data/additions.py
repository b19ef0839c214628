"""What a user may add to a data set that comes without splits or reports: two small tables."""

from collections.abc import Mapping
from pathlib import Path

from medvlp.data.annotation_file import read_annotations, text_sections
from medvlp.data.records import SPLITS
from medvlp.data.tables import is_empty, read_table

_SECTIONS = ("report", "findings", "impression")


class Additions:
    """Splits and reports of the user's own, looked up by study id.

    Args:
        beside: Folder whose `splits.csv` and `reports.csv` are meant where none is named: the
            twins bring their own.
        splits: CSV with the columns `study` and `split` (train, val or test). Patients must not
            straddle.
        reports: CSV with the column `study` and at least one of `report`, `findings`,
            `impression`; or a JSON file of report strings, see `AnnotationFile`.
        default_split: Of studies that `splits` does not name, and of all if there is none.
    """

    def __init__(
        self,
        beside: str | None = None,
        *,
        splits: str | None = None,
        reports: str | None = None,
        default_split: str = "test",
    ) -> None:
        if default_split not in SPLITS:
            raise ValueError(f"split is {default_split!r}, expected one of {', '.join(SPLITS)}")
        own = Path(beside) if beside else None
        self.splits = Path(splits) if splits else own and own / "splits.csv"
        self.reports = Path(reports) if reports else own and own / "reports.csv"
        self.default_split = default_split
        self._split_of: dict[str, str] = {}
        self._texts_of: dict[str, dict[str, str]] = {}
        self._patients: dict[str, str] = {}

    def describe(self) -> dict[str, str | None]:
        """State where the tables lie, in JSON types."""
        return {
            "splits": str(self.splits.resolve()) if self.splits else None,
            "reports": str(self.reports.resolve()) if self.reports else None,
            "split": self.default_split,
        }

    def read(self) -> None:
        """Read the tables anew.

        Raises:
            FileNotFoundError: If one is not there.
            ValueError: If one is not as described.
        """
        self._split_of, self._texts_of, self._patients = {}, {}, {}
        if self.splits:
            rows = read_table(self.splits, ("study", "split"))
            self._split_of = {row["study"].strip(): row["split"].strip() for row in rows}
            wrong = sorted(set(self._split_of.values()) - set(SPLITS))
            if wrong:
                raise ValueError(
                    f"{self.splits}: split {wrong[0]!r}, expected one of {', '.join(SPLITS)}"
                )
        if self.reports and self.reports.suffix == ".json":
            entries = read_annotations(self.reports)
            self._texts_of = {study: text_sections(said.strings) for study, said in entries.items()}
        elif self.reports:
            rows = read_table(self.reports, ("study",))
            if not set(_SECTIONS) & set(rows[0]):
                raise ValueError(
                    f"{self.reports} has none of the columns {', '.join(_SECTIONS)}; "
                    f"columns found: {', '.join(rows[0])}"
                )
            self._texts_of = {row["study"].strip(): _texts(row) for row in rows}

    def split(self, study_id: str, patient_id: str) -> str:
        """Say which split a study belongs to.

        Raises:
            ValueError: If another study of the patient belongs to another split.
        """
        split = self._split_of.get(study_id, self.default_split)
        before = self._patients.setdefault(patient_id, split)
        if before != split:
            raise ValueError(
                f"{self.splits}: studies of the patient {patient_id!r} stand under {before!r} and "
                f"{split!r}; put all of them into one split"
            )
        return split

    def texts(self, study_id: str) -> Mapping[str, str]:
        """Return the sections of a study's report; empty if there is none."""
        return self._texts_of.get(study_id, {})


def _texts(row: Mapping[str, str]) -> dict[str, str]:
    return {name: row[name].strip() for name in _SECTIONS if not is_empty(row.get(name))}
