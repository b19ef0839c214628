"""NumPy archives that come out the same, byte by byte, whenever they are written."""

import io
import zipfile
from pathlib import Path

import numpy as np

from medvlp.phantom.nifti_file import write_bytes

_DATE = (1980, 1, 1, 0, 0, 0)  # the first that a zip file can state


def write_npz(path: Path, *, share: float = 1.0, **arrays: np.ndarray) -> None:
    """Write arrays as `numpy.savez_compressed` does, but without the time of day.

    Args:
        path: Where to; its folder must exist.
        share: Keep only this share of the bytes: below 1 the file is corrupt.
        arrays: By their keys.
    """
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for key, array in arrays.items():
            content = io.BytesIO()
            np.lib.format.write_array(content, np.ascontiguousarray(array), allow_pickle=False)
            entry = zipfile.ZipInfo(f"{key}.npy", _DATE)
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, content.getvalue())
    content = packed.getvalue()
    write_bytes(path, content[: int(len(content) * share)])
