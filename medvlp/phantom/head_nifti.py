"""Write scans of a phantom head as NIfTI: any number type, several channels where there are."""

from pathlib import Path

import nibabel as nib
import numpy as np
from isal import igzip
from jaxtyping import Shaped

from medvlp.phantom.head_scan import Lattice
from medvlp.phantom.nifti_file import write_bytes


def write_scan(
    path: Path, array: Shaped[np.ndarray, "*c d h w"], where: Lattice, *, share: float = 1.0
) -> None:
    """Write a volume, or channels of one as NIfTI's fourth axis, as .nii.gz.

    Args:
        path: Where to; its folder is made.
        array: Channels if there are several, slices, rows, columns.
        where: The lattice.
        share: Keep only this share of the compressed bytes: below 1 the file is corrupt.
    """
    axes = (3, 2, 1, 0) if array.ndim == 4 else (2, 1, 0)
    image = nib.Nifti1Image(array.transpose(axes), where.affine, dtype=array.dtype)
    image.header.set_xyzt_units("mm", "sec")
    packed = igzip.compress(image.to_bytes(), 1, mtime=0)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, packed[: int(len(packed) * share)])
