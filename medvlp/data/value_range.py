"""What is said of the numbers of a volume, at a cost that preparation does not notice."""

from collections.abc import Mapping
from math import isfinite

import numpy as np
import torch

_ENOUGH = 100_000  # voxels: sorting more says the same


def thinned(array: np.ndarray) -> np.ndarray:
    """Take about 100,000 voxels, evenly along the last three axes.

    >>> thinned(np.zeros((200, 200, 200))).shape
    (50, 50, 50)
    """
    step = max(1, round((array.size / _ENOUGH) ** (1 / 3)))
    return array[..., ::step, ::step, ::step]


def value_range(values: np.ndarray) -> list[float]:
    """Give the 0.5 and the 99.5 percentile.

    >>> value_range(np.arange(201))
    [1.0, 199.0]
    """
    low, high = np.percentile(values, (0.5, 99.5))
    return [float(low), float(high)]


def require_finite(arrays: Mapping[str, np.ndarray]) -> None:
    """Refuse NaN and infinity.

    Raises:
        ValueError: With the name of the array.
    """
    for name, array in arrays.items():
        if array.dtype.kind != "f":
            continue
        # PyTorch compares half numbers ten times as fast as NumPy
        values = torch.from_numpy(np.require(array, requirements=["C", "W"]))
        if not all(map(isfinite, values.aminmax())):
            raise ValueError(f"the prepared {name} has values that are not finite")
