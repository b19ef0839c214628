"""Fast compressed NIfTI files, written all at once or not at all."""

import os
from pathlib import Path

import nibabel as nib
import numpy as np
from isal import igzip
from jaxtyping import Float, Float32, Int16, UInt8

_EXTENSION = b"\0\0\0\0"


def write_nifti(
    path: Path,
    array: Int16[np.ndarray, "d h w"] | UInt8[np.ndarray, "d h w"] | Float32[np.ndarray, "d h w"],
    affine: Float[np.ndarray, "4 4"],
    *,
    share: float = 1.0,
) -> None:
    """Write a volume as .nii.gz with slope 1 and intercept 0 in the header.

    Args:
        path: Where to; its folder must exist.
        array: Slices, rows, columns. NIfTI wants x, y, z with x running fastest, which is the
            same run of bytes.
        affine: From (x, y, z) indices to RAS millimetres.
        share: Keep only this share of the compressed bytes: below 1 the file is corrupt.
    """
    header = nib.Nifti1Header()
    header.set_data_dtype(array.dtype)
    header.set_data_shape(array.shape[::-1])
    header.set_sform(affine, code="scanner")
    header.set_qform(affine, code="scanner")
    header.set_xyzt_units("mm", "sec")
    header.set_slope_inter(1.0, 0.0)
    header["vox_offset"] = 352
    header["magic"] = b"n+1"
    payload = header.binaryblock + _EXTENSION + np.ascontiguousarray(array).tobytes()
    packed = igzip.compress(payload, 1, mtime=0)
    write_bytes(path, packed[: int(len(packed) * share)])


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file under a temporary name and give it its own once it is whole."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    temporary.write_bytes(content)
    os.replace(temporary, path)
