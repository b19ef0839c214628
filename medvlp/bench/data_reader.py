"""Reading .nii.gz: our reader against the bare decompressor and against nibabel."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medvlp.bench.data_files import Files, evict
from medvlp.bench.data_memory import peak_bytes
from medvlp.bench.timing import interleaved


def measure(files: Files, small: Files, repeats: int) -> list[dict[str, Any]]:
    """Time every way to read one scan in turn, warm and cold, and its peak memory."""
    path = files.paths[0]
    works = {name: partial(work, path) for name, work in WAYS.items()}
    times = interleaved(works, repeats, torch.device("cpu"))
    evictable = evict(path)
    cold = interleaved(
        {name: partial(_cold, work, path) for name, work in WAYS.items()}, 1, torch.device("cpu")
    )
    return [
        {
            "reader": name,
            "CPU s": timing.cpu,
            "wall s": timing.wall,
            "cold wall s": cold[name].wall if evictable else None,
            "MB/CPU s": files.num_bytes / timing.cpu / 1e6,
            "speed of isal": times["bare isal"].cpu / timing.cpu,
            "speed of nibabel": times["nibabel get_fdata"].cpu / timing.cpu,
            "peak / array": peak_bytes(WAYS[name], (small.paths[0],), path) / files.num_bytes,
        }
        for name, timing in times.items()
    ]


def ours(path: Path) -> np.ndarray:
    """Read with all checks."""
    from medvlp.data.readers.registry import read

    return read(path).array


def bare_isal(path: Path) -> bytes:
    """Only inflate."""
    from isal import igzip

    return igzip.decompress(path.read_bytes())


def nibabel_floats(path: Path) -> np.ndarray:
    """Read as most code does: float64."""
    from nibabel.nifti1 import load

    return load(path).get_fdata()


def nibabel_integers(path: Path) -> np.ndarray:
    """Read what is stored."""
    from nibabel.nifti1 import load

    return np.asarray(load(path).dataobj)


def _cold(work: Any, path: Path) -> None:
    evict(path)
    work(path)


WAYS = {
    "medvlp": ours,
    "bare isal": bare_isal,
    "nibabel get_fdata": nibabel_floats,
    "nibabel dataobj": nibabel_integers,
}
