"""What the cache holds of a study with lesions: each volume on the lattice it came on."""

from typing import Any

import numpy as np

from medvlp.data.hounsfield import check_hounsfield
from medvlp.data.scan import Scan, resampled_affine

MAX_SUV = 200.0
"""No more than one voxel in a thousand of a body takes up that much."""

_MAX_LABEL = 2**16 - 1


def stored_image(scan: Scan, dtype: str) -> np.ndarray:
    """Rescale a scan to its values: HU of CT, as they are of MR.

    Raises:
        ValueError: If the values are no HU, or `dtype` cannot hold them.
    """
    if scan.modality == "CT":
        check_hounsfield(scan.array, scan.rescale)
    elif dtype == "int16":
        raise ValueError(
            f"a {scan.modality} scan in int16 would lose its fractions; set image_dtype=float32"
        )
    return _held(_values(scan), dtype)


def stored_pet(scan: Scan, dtype: str) -> np.ndarray:
    """Take standardised uptake values.

    Raises:
        ValueError: If there is no uptake at all, or so much that it must be activity.
    """
    values = _values(scan)
    high = float(np.quantile(values[::2, ::2, ::2], 0.999))
    if high > MAX_SUV:
        raise ValueError(
            f"the PET has values up to {high:.0f}: this is activity, not SUV; give SUV.nii.gz, "
            "not PET.nii.gz"
        )
    if float(values.max()) <= 0:
        raise ValueError("the PET holds nothing above 0")
    return _held(values, dtype)


def stored_mask(scan: Scan) -> np.ndarray:
    """Take lesion numbers as the smallest integers that hold them.

    Raises:
        ValueError: If they are not whole numbers from 0 up.
    """
    values = scan.array if scan.rescale.is_identity else _values(scan)
    low, high = float(values.min()), float(values.max())
    whole = values.dtype.kind in "iub" or bool(np.array_equal(values, np.rint(values)))
    if low < 0 or high > _MAX_LABEL or not whole:
        raise ValueError(
            f"the lesion mask runs from {low:g} to {high:g}"
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
        raise ValueError("a bare array: lesion boxes in mm need files that say where they lie")
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


def _values(scan: Scan) -> np.ndarray:
    values = scan.array.astype(np.float32)
    if not scan.rescale.is_identity:
        values *= np.float32(scan.rescale.slope)
        values += np.float32(scan.rescale.intercept)
    return values


def _held(values: np.ndarray, dtype: str) -> np.ndarray:
    kind = np.dtype(dtype)
    largest = np.iinfo(kind).max if kind.kind == "i" else float(np.finfo(kind).max)
    low, high = float(values.min()), float(values.max())
    if not -largest <= low <= high <= largest:
        raise ValueError(f"values run from {low:g} to {high:g}, which {dtype} cannot hold")
    return (np.rint(values) if kind.kind == "i" else values).astype(kind)


def _extent(grid: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    affine, shape = np.asarray(grid["affine"]), np.asarray(grid["shape"])
    ends = np.stack([np.full(3, -0.5), shape - 0.5])
    corners = np.array([[ends[i, 0], ends[j, 1], ends[k, 2]] for i, j, k in np.ndindex(2, 2, 2)])
    points = corners @ affine[:3, :3].T + affine[:3, 3]
    return points.min(axis=0), points.max(axis=0)


def _span(low: np.ndarray, high: np.ndarray) -> str:
    return ", ".join(f"{a:.0f} to {b:.0f}" for a, b in zip(low, high, strict=True))
