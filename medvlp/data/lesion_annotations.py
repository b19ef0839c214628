"""The lesions of a study, from the rows of a table that are about it."""

import re
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from medvlp.data.lesion_places import PlaceVocabulary
from medvlp.data.lesion_table import BoxMm, box_of, names_of
from medvlp.data.records import Lesion, Skip
from medvlp.data.tables import is_empty


class LesionAnnotations:
    """Read boxes, labels and places; what cannot be right is left out and named.

    Args:
        table: Its name, for messages.
        place_column: Final names, joined with commas; None for a table without.
        places: Finds them; None leaves names as they are, without coarse place and fine word.

    Attributes:
        skips: What was left out or changed.
    """

    def __init__(
        self, table: str, place_column: str | None, places: PlaceVocabulary | None
    ) -> None:
        self.table, self.place_column, self.places = table, place_column, places
        self.skips: list[Skip] = []

    def lesions(
        self, study: str, rows: Sequence[Mapping[str, str]], image: Path
    ) -> tuple[Lesion, ...]:
        """Make the lesions of a study, numbered as its rows.

        Args:
            study: Its id.
            rows: With the columns of a box, perhaps `label` and the places.
            image: Shows them; a centre outside is refused.
        """
        lesions: dict[BoxMm, Lesion] = {}
        for number, row in enumerate(rows, start=1):
            lesion_id, where = f"{number:03d}", f"{study}, lesion {number:03d}"
            try:
                box, label = box_of(row), _label(row)
            except ValueError as error:
                self._skip(where, str(error))
                continue
            if box in lesions:
                self._skip(where, "the box is listed twice; the first row counts")
            elif not lies_inside(image, box[:3]):
                centre = f"its centre {box[:3]} mm lies outside the image"
                self._skip(where, f"{centre}; are x, y, z LPS?")
            else:
                lesions[box] = Lesion(lesion_id, box, label, *self._located(where, row))
        return tuple(lesions.values())

    def _skip(self, where: str, reason: str) -> None:
        self.skips.append(Skip(where, f"{self.table}: {reason}"))

    def _located(self, where: str, row: Mapping[str, str]) -> tuple[str, str, str]:
        """Return final names, coarse places and fine words, joined with commas."""
        names = names_of(row[self.place_column] if self.place_column else "")
        if self.place_column and not names:
            self.skips.append(Skip(where, "no place: not for training, kept for prediction"))
        if self.places is None:
            return ",".join(names), "", ""
        found = []
        for name in names:
            try:
                found.append(self.places.locate(name))
            except ValueError as error:
                self.skips.append(Skip(where, f"{error}; left out of its places"))
        return (
            ",".join(place.name for place in found),
            ",".join(place.coarse for place in found),
            ",".join(place.fine for place in found),
        )


def lies_inside(path: Path, point_lps: tuple[float, float, float]) -> bool:
    """Tell from its header whether a NIfTI file shows a point; True where it cannot be read.

    A damaged file is refused when it is prepared, with the reason.
    """
    import nibabel as nib
    from nibabel.filebasedimages import ImageFileError

    try:
        image = nib.load(path)
        to_index = np.linalg.inv(image.affine)  # pyright: ignore[reportAttributeAccessIssue]
        shape = np.array(image.shape[:3])  # pyright: ignore[reportAttributeAccessIssue]
    except (OSError, EOFError, ValueError, zlib.error, ImageFileError, np.linalg.LinAlgError):
        return True
    x, y, z = point_lps
    index = (to_index @ [-x, -y, z, 1.0])[:3]
    return bool(np.all(index >= -0.5) and np.all(index <= shape - 0.5))


def _label(row: Mapping[str, str]) -> int:
    """Read the optional column `label`: the value of the lesion in the mask."""
    cell = row.get("label", "").strip()
    if is_empty(cell):
        return 0
    if not re.fullmatch(r"\d+", cell):
        raise ValueError(f"label is {cell!r}, expected a whole number of the mask")
    return int(cell)
