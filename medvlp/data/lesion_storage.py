"""What the cache holds of a study with lesions: each volume on the lattice it came on."""

import logging
from typing import Any

import numpy as np

from medvlp.data.hounsfield import check_hounsfield
from medvlp.data.scan import Rescale, Scan, resampled_affine

MAX_SUV = 200.0
"""No more than one voxel in a thousand of a body takes up that much."""

_LOG = logging.getLogger(__name__)
_MAX_LABEL = 2**16 - 1
_PICTURE = (-1.0, 255.0)  # fat and air, which every CT has, lie below
_USUAL_SUV = (0.3, 50.0)  # what one voxel in a thousand of a body exceeds
_LOWEST_SUV = -5.0  # some ways of reconstruction leave a little below 0


def stored_image(scan: Scan, dtype: str) -> np.ndarray:
    """Rescale a scan to its values: HU of CT, as they are of MR.

    Whole numbers that int16 holds are stored in it where float32 would hold the same.

    Raises:
        ValueError: If the values are no HU, or `dtype` cannot hold them.
    """
    if scan.modality == "CT":
        _check_ct(scan)
    elif dtype == "int16":
        raise ValueError(
            f"a {scan.modality} scan in int16 would lose its fractions; set image_dtype=float32"
        )
    return _stored(scan, dtype)


def stored_pet(scan: Scan, dtype: str) -> np.ndarray:
    """Take standardised uptake values; unusual ones are told in the log.

    Raises:
        ValueError: If there is no uptake at all, or what can be none: activity, or a CT.
    """
    some = _rescaled(scan.array[::2, ::2, ::2], scan.rescale)
    low, high = (float(value) for value in np.quantile(some, (0.001, 0.999)))
    if high > MAX_SUV:
        raise ValueError(
            f"{_name(scan)}the PET has values up to {high:.0f}: this is activity, not SUV; give "
            "SUV.nii.gz, not PET.nii.gz"
        )
    if low < _LOWEST_SUV:
        raise ValueError(
            f"{_name(scan)}the PET has values down to {low:.0f}, uptake is not below 0; is this "
            "the CT?"
        )
    if _range(scan)[1] <= 0:
        raise ValueError(f"{_name(scan)}the PET holds nothing above 0")
    whole = scan.array.dtype.kind in "iub" and scan.rescale.is_identity
    if whole or not _USUAL_SUV[0] <= high <= _USUAL_SUV[1]:
        kind = ", whole numbers only" if whole else ""
        _LOG.warning("%sthe PET has values up to %.2g%s: is this SUV?", _name(scan), high, kind)
    return _stored(scan, dtype)


def stored_mask(scan: Scan) -> np.ndarray:
    """Take lesion numbers as the smallest integers that hold them.

    Raises:
        ValueError: If they are not whole numbers from 0 up.
    """
    values = scan.array if scan.rescale.is_identity else _rescaled(scan.array, scan.rescale)
    low, high = float(values.min()), float(values.max())
    whole = values.dtype.kind in "iub" or bool(np.array_equal(values, np.rint(values)))
    if low < 0 or high > _MAX_LABEL or not whole:
        raise ValueError(
            f"{_name(scan)}the lesion mask runs from {low:g} to {high:g}"
            f"{'' if whole else ' with fractions'}: expected whole numbers from 0 (background) "
            f"to {_MAX_LABEL}"
        )
    return np.ascontiguousarray(values, dtype=np.uint8 if high < 256 else np.uint16)


def grid_of(scan: Scan) -> dict[str, Any]:
    """State shape (d, h, w) and affine (4x4, index to RAS mm) in JSON types.

    Raises:
        ValueError: If the scan does not say where it lies.
    """
    if not np.isfinite(scan.affine).all():
        raise ValueError(
            f"{_name(scan)}a bare array: lesion boxes in mm need files that say where they lie"
        )
    affine = resampled_affine(scan, scan.orientation, scan.array.shape)
    return {"shape": list(scan.array.shape), "affine": affine.tolist()}


def require_overlap(grids: dict[str, dict[str, Any]]) -> None:
    """Refuse companions that lie elsewhere in the world than the image.

    Raises:
        ValueError: With both extents.
    """
    low, high = _extent(grids["image"])
    for name, grid in grids.items():
        other_low, other_high = _extent(grid)
        if np.any(other_low >= high) or np.any(other_high <= low):
            raise ValueError(
                f"{name} spans {_span(other_low, other_high)} mm (x, y, z; RAS) and the image "
                f"{_span(low, high)}: they do not meet; do both belong to the same study?"
            )


def _check_ct(scan: Scan) -> None:
    low, high = _range(scan)
    if low >= _PICTURE[0] and high <= _PICTURE[1]:
        raise ValueError(
            f"{_name(scan)}the CT runs from {low:g} to {high:g}: these are grey values of a "
            "picture, or normalised ones, not HU; give the CT as it was read from DICOM"
        )
    try:
        check_hounsfield(scan.array, scan.rescale)
    except ValueError as error:
        raise ValueError(f"{_name(scan)}{error}") from error


def _name(scan: Scan) -> str:
    """Begin a message about a file."""
    path = scan.provenance.get("path")
    return f"{path}: " if path else ""


def _stored(scan: Scan, dtype: str) -> np.ndarray:
    """Rescale slice by slice; what is stored already is returned as it is."""
    rule, (low, high) = scan.rescale, _range(scan)
    kind = np.dtype(dtype)
    whole = scan.array.dtype.kind in "iu" and rule.slope % 1 == 0 and rule.intercept % 1 == 0
    if whole and kind == np.float32 and _holds(np.dtype(np.int16), low, high):
        kind = np.dtype(np.int16)
    if not _holds(kind, low, high):
        raise ValueError(
            f"{_name(scan)}values run from {low:g} to {high:g}, which {dtype} cannot hold"
        )
    if rule.is_identity and scan.array.dtype == kind:
        return scan.array
    stored = np.empty(scan.array.shape, kind)
    for source, target in zip(scan.array, stored, strict=True):
        values = _rescaled(source, rule)
        target[...] = np.rint(values) if kind.kind == "i" else values
    return stored


def _holds(kind: np.dtype, low: float, high: float) -> bool:
    largest = np.iinfo(kind).max if kind.kind == "i" else float(np.finfo(kind).max)
    return -largest <= low <= high <= largest


def _range(scan: Scan) -> tuple[float, float]:
    ends = np.array([scan.array.min(), scan.array.max()])
    low, high = sorted(_rescaled(ends, scan.rescale).tolist())
    return low, high


def _rescaled(array: np.ndarray, rule: Rescale) -> np.ndarray:
    values = array.astype(np.float32)
    if not rule.is_identity:
        values *= np.float32(rule.slope)
        values += np.float32(rule.intercept)
    return values


def _extent(grid: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    affine, shape = np.asarray(grid["affine"]), np.asarray(grid["shape"])
    ends = np.stack([np.full(3, -0.5), shape - 0.5])
    corners = np.array([[ends[i, 0], ends[j, 1], ends[k, 2]] for i, j, k in np.ndindex(2, 2, 2)])
    points = corners @ affine[:3, :3].T + affine[:3, 3]
    return points.min(axis=0), points.max(axis=0)


def _span(low: np.ndarray, high: np.ndarray) -> str:
    return ", ".join(f"{a:.0f} to {b:.0f}" for a, b in zip(low, high, strict=True))
