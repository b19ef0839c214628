"""One volume as it came from its file, before any preprocessing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from medvlp.types import Spacing3D

# Direction of increasing index, as the first and second letter of each pair, and the world axis
# (x, y, z of NIfTI's RAS+ millimetres) that the pair lies along.
_LETTERS = (("L", "R"), ("P", "A"), ("I", "S"))


@dataclass(frozen=True)
class Rescale:
    """A linear rule from stored numbers to Hounsfield units: `stored * slope + intercept`."""

    slope: float = 1.0
    intercept: float = 0.0

    @property
    def is_identity(self) -> bool:
        """Whether applying the rule would change nothing."""
        return self.slope == 1.0 and self.intercept == 0.0


@dataclass(frozen=True, eq=False)
class Scan:
    """A volume with its geometry and what is known of its numbers.

    Attributes:
        array: Voxels as stored, axes (d, h, w) = the file's (k, j, i): for an axial series slices,
            rows, columns. Integers stay integers; nothing is rescaled.
        affine: 4x4, from the file's voxel index (i, j, k) to millimetres in NIfTI's RAS+ world;
            NaN if the file is a bare array, whose data set must state spacing and orientation.
        spacing_mm: Distance of voxel centres along (d, h, w).
        orientation: Three letters, the patient direction (L/R, P/A, I/S) of increasing index
            along (d, h, w): "SPL" is slices upwards, rows to the back, columns to the left. From
            the affine, unless a data set states it because its headers are not to be trusted.
        rescale: What remains to be applied to `array` to get the scan's values (HU for CT).
        modality: DICOM code: "CT", "MR".
        provenance: Where it came from (path, reader, header facts), for messages and reports.
        companions: Volumes that belong to it, by field name, each on a grid of its own.
        arrays: What else belongs to it, by field name, as its data set made it.
    """

    array: np.ndarray
    affine: np.ndarray
    spacing_mm: Spacing3D
    orientation: str
    rescale: Rescale = field(default_factory=Rescale)
    modality: str = "CT"
    provenance: Mapping[str, Any] = field(default_factory=dict)
    companions: "Mapping[str, Scan]" = field(default_factory=dict)
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def has_geometry(self) -> bool:
        """Whether it is known how the voxels lie in the patient."""
        return bool(np.isfinite(self.affine).all())

    def restated(
        self,
        *,
        spacing_mm: Spacing3D | None = None,
        rescale: Rescale | None = None,
        orientation: str | None = None,
        modality: str | None = None,
    ) -> "Scan":
        """Return the scan with facts that its data set states in place of the header's.

        Raises:
            ValueError: If a rescale rule is stated and the header has one too: one of the two
                would be applied to what the other has made. If the header names another
                modality. If the file is a bare array and spacing or orientation is not stated.
        """
        self._require_agreement(rescale, modality)
        affine = self.affine
        if not self.has_geometry:
            if spacing_mm is None or orientation is None:
                raise ValueError(
                    f"{self.provenance.get('path', 'the scan')}: a bare array, without geometry; "
                    "its data set must state spacing_mm and orientation, or give NIfTI instead"
                )
            affine = _plain_affine(orientation, spacing_mm)
        return replace(
            self,
            affine=affine,
            spacing_mm=spacing_mm or self.spacing_mm,
            rescale=rescale or self.rescale,
            orientation=orientation or self.orientation,
            modality=modality or self.modality,
        )

    def _require_agreement(self, rescale: Rescale | None, modality: str | None) -> None:
        """Refuse what a data set states if the header says otherwise."""
        if rescale is not None and not self.rescale.is_identity:
            raise ValueError(
                f"the header rescales (slope {self.rescale.slope:g}, intercept "
                f"{self.rescale.intercept:g}) and the data set's table states slope "
                f"{rescale.slope:g}, intercept {rescale.intercept:g}: only one can be right"
            )
        told = self.provenance.get("modality")
        if modality is not None and told is not None and modality != told:
            raise ValueError(
                f"{self.provenance.get('path', 'the scan')}: the header says {told}, the data set "
                f"{modality}; correct the data set's modality, or leave the scan out"
            )


def orientation_of(affine: np.ndarray) -> str:
    """Name the direction of increasing index along the array axes (d, h, w).

    An oblique axis gets the letter of the world axis it is nearest to; each world axis is used
    once, the closest match first.

    Args:
        affine: 4x4, from voxel index (i, j, k) to RAS+ millimetres.

    >>> orientation_of(np.diag([-1.0, -1.0, 3.0, 1.0]))
    'SPL'
    """
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    closeness = np.abs(directions)
    letters = ["?", "?", "?"]
    for _ in range(3):
        world, voxel = np.unravel_index(int(closeness.argmax()), (3, 3))
        letters[voxel] = _LETTERS[world][int(directions[world, voxel] > 0)]
        closeness[world, :] = -1.0
        closeness[:, voxel] = -1.0
    return "".join(reversed(letters))


def reorient(array: np.ndarray, source: str, target: str) -> tuple[np.ndarray, tuple[int, ...]]:
    """Permute and flip the axes of a volume, without copying.

    Args:
        array: Axes (d, h, w).
        source: Letters of the axes of `array`, see `Scan.orientation`.
        target: The letters wanted.

    Returns:
        A view with the wanted orientation, and for each of its axes the axis of `array` it was.

    Raises:
        ValueError: If `source` or `target` does not name each patient axis once.

    >>> view, axes = reorient(np.arange(2).reshape(1, 1, 2), "SPL", "SPR")
    >>> view.ravel().tolist(), axes
    ([1, 0], (0, 1, 2))
    """
    check_orientation(source)
    check_orientation(target)
    pair_of = {letter: pair for pair in _LETTERS for letter in pair}
    axes = tuple([pair_of[letter] for letter in source].index(pair_of[w]) for w in target)
    flips = tuple(
        slice(None, None, 1 if source[axis] == letter else -1)
        for axis, letter in zip(axes, target, strict=True)
    )
    return array.transpose(axes)[flips], axes


def resampled_affine(scan: Scan, orientation: str, shape: Sequence[int]) -> np.ndarray:
    """State the grid of a scan after `reorient` to `orientation` and resizing to `shape`.

    Resizing is that of `torch.nn.functional.interpolate(align_corners=False)`: the edges of the
    outermost voxels stay where they are. The scan's own letters and spacing decide, also where a
    data set states them in place of the header's; the origin is always the header's.

    Args:
        scan: As read.
        orientation: Letters of the new axes (d, h, w).
        shape: New size along them.

    Returns:
        4x4, from the new voxel index (d, h, w) to RAS+ millimetres.
    """
    view, axes = reorient(np.empty(scan.array.shape, np.uint8), scan.orientation, orientation)
    affine = np.eye(4)
    corner = scan.affine[:3, 3].copy()
    for new, old in enumerate(axes):
        direction = _direction(scan, old) * scan.spacing_mm[old]
        if scan.orientation[old] != orientation[new]:  # flipped: starts at the other end
            corner += direction * (scan.array.shape[old] - 1)
            direction = -direction
        scale = view.shape[new] / shape[new]
        affine[:3, new] = direction * scale
        corner += direction * (scale - 1) / 2
    affine[:3, 3] = corner
    return affine


def _direction(scan: Scan, axis: int) -> np.ndarray:
    """Give the unit vector of an array axis: the header's, or that of its stated letter."""
    column = scan.affine[:3, 2 - axis]
    if orientation_of(scan.affine) == scan.orientation:
        return column / np.linalg.norm(column)
    pair = next(index for index, pair in enumerate(_LETTERS) if scan.orientation[axis] in pair)
    unit = np.zeros(3)
    unit[pair] = 1.0 if scan.orientation[axis] == _LETTERS[pair][1] else -1.0
    return unit


def _plain_affine(orientation: str, spacing_mm: Spacing3D) -> np.ndarray:
    """Make the affine of an array whose first voxel is taken to lie at the world's origin."""
    check_orientation(orientation)
    affine = np.zeros((4, 4))
    affine[3, 3] = 1.0
    for axis, (letter, length) in enumerate(zip(orientation, spacing_mm, strict=True)):
        world = next(index for index, pair in enumerate(_LETTERS) if letter in pair)
        affine[world, 2 - axis] = length if letter == _LETTERS[world][1] else -length
    return affine


def check_orientation(letters: str) -> None:
    """Refuse letters that do not name each patient axis once.

    Raises:
        ValueError: With the letters and an example.
    """
    pairs = {pair for pair in _LETTERS for letter in letters if letter in pair}
    if len(letters) != 3 or len(pairs) != 3:
        raise ValueError(
            f"orientation is {letters!r}, expected three letters, one each of L/R, P/A and I/S, "
            "for the direction of increasing index along depth, height, width; CT-RATE is 'SPL'"
        )
