"""What a cell of a user's table may say: a path inside a folder, a spacing."""

import re
from pathlib import Path, PurePosixPath

from medvlp.data.tables import is_empty
from medvlp.types import Spacing3D

_SMALLEST_MM, _LARGEST_MM = 0.01, 50.0


def stays_inside(root: Path, name: str) -> bool:
    """Tell whether a path from a table stays in its folder, links followed.

    Raises:
        OSError, RuntimeError: If it cannot be followed: a link to itself, a name too long.

    >>> stays_inside(Path("scans"), "a/b.nii"), stays_inside(Path("scans"), "../b.nii")
    (True, False)
    """
    parts = PurePosixPath(name.replace("\\", "/"))
    if parts.is_absolute() or ".." in parts.parts or "\0" in name:
        return False
    return (root / name).resolve().is_relative_to(root.resolve())


def read_spacing(cell: str) -> Spacing3D | None:
    """Read the distances of slices, rows and columns; None if the cell is empty.

    Raises:
        ValueError: If there are not three lengths between 0.01 and 50 mm.

    >>> read_spacing("[3.0, 1, 1]"), read_spacing("2.5 x 0.7 x 0.7"), read_spacing("")
    ((3.0, 1.0, 1.0), (2.5, 0.7, 0.7), None)
    """
    if is_empty(cell):
        return None
    try:
        depth, height, width = (
            float(number) for number in re.split(r"[\s,;x\[\]()]+", cell) if number
        )
    except ValueError as error:
        raise ValueError(
            f"spacing_mm is {cell!r}, expected three lengths in mm along slices, rows and columns, "
            "such as 3 0.7 0.7"
        ) from error
    if not all(_SMALLEST_MM < length < _LARGEST_MM for length in (depth, height, width)):
        raise ValueError(f"spacing_mm is {cell!r}, out of the range 0.01 to 50")
    return depth, height, width
