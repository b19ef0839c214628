"""CSV tables of lesions, as HCL-AL writes them: an image, a box, and what is known of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from medvlp.data.tables import read_table

BoxMm = tuple[float, float, float, float, float, float]
"""Centre x, y, z and full sides along x, y, z, in mm of the LPS world."""

BOX_COLUMNS = ("x", "y", "z", "width", "height", "depth")


@dataclass(frozen=True, eq=False)
class LesionTable:
    """Rows of a table.

    Attributes:
        path: Of the table.
        cells: Of each row, as they are written.
        cases: Of each row: the folder that holds its image.
        boxes: Centre and sides.
    """

    path: Path
    cells: list[dict[str, str]]
    cases: list[str]
    boxes: Float[ndarray, "n 6"]

    @classmethod
    def read(cls, path: Path, columns: Sequence[str] = ()) -> "LesionTable":
        """Read a table with image_path, x, y, z, width, height, depth, and `columns`.

        Raises:
            FileNotFoundError, ValueError: If it cannot be read, or a box cannot be one.
        """
        cells = read_table(path, ("image_path", *BOX_COLUMNS, *columns))
        boxes: list[BoxMm] = []
        for number, row in enumerate(cells, start=1):
            try:
                boxes.append(box_of(row))
            except ValueError as error:
                raise ValueError(f"{path}, lesion {number}: {error}") from error
        return cls(path, cells, [case_of(row["image_path"]) for row in cells], np.array(boxes))


def box_of(row: Mapping[str, str]) -> BoxMm:
    """Read the box of a row.

    Raises:
        ValueError: If it is not six numbers, or none that a patient can have.
    """
    cells = [row[column].strip() for column in BOX_COLUMNS]
    try:
        x, y, z, width, height, depth = (float(cell) for cell in cells)
    except ValueError as error:
        raise ValueError(f"the box {cells} is not six numbers") from error
    if not all(abs(value) < 1e5 for value in (x, y, z)):
        raise ValueError(f"the centre of the box {cells} is not in millimetres of a patient")
    if not all(0 < side < 1e4 for side in (width, height, depth)):
        raise ValueError(f"the sides of the box {cells} are not above 0 mm")
    return x, y, z, width, height, depth


def case_of(image_path: str) -> str:
    """Name the case of an image: the folder that holds it.

    >>> case_of("data/case_01/CT.nii.gz")
    'case_01'
    """
    return PurePosixPath(image_path.replace("\\", "/")).parent.name


def names_of(cell: str) -> list[str]:
    """Split a cell of names that are joined with commas; each is given once.

    >>> names_of("Heart, Left lung,Heart")
    ['Heart', 'Left lung']
    """
    return list(dict.fromkeys(name.strip() for name in cell.split(",") if name.strip()))


def ranked_coarse(row: Mapping[str, str]) -> dict[str, float]:
    """Read coarse places, best first, and their probabilities.

    Raises:
        ValueError: If there are not as many numbers as names.
    """
    names, values = names_of(row["coarse_labels"]), row["coarse_probs"].split(",")
    try:
        return dict(zip(names, map(float, values), strict=True))
    except ValueError as error:
        raise ValueError(
            f"coarse_labels and coarse_probs are {names} and {values}: expected as many numbers as "
            "names"
        ) from error
