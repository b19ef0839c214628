"""Numbers from 0 to 1 in the cache: 16-bit fractions, half or single precision."""

from typing import Literal

import numpy as np
from jaxtyping import Float, Float32, Shaped

UnitDtype = Literal["uint16", "float16", "float32"]
"""uint16 holds steps of 1/65535, finer than float16 above 1/64, and compresses best."""

_LARGEST = np.float32(65535)
_DTYPES = ("uint16", "float16", "float32")


def check_unit_dtype(dtype: str) -> None:
    """Refuse a storage type that is none of `UnitDtype`.

    Raises:
        ValueError: With the types there are.
    """
    if dtype not in _DTYPES:
        raise ValueError(f"store_dtype is {dtype!r}, expected one of {', '.join(_DTYPES)}")


def pack_unit(values: Float[np.ndarray, "..."], dtype: UnitDtype) -> Shaped[np.ndarray, "..."]:
    """Store numbers from 0 to 1; uint16 rounds to the nearest of its steps.

    >>> pack_unit(np.array([0.0, 0.5, 1.0]), "uint16").tolist()
    [0, 32768, 65535]
    """
    if dtype == "uint16":
        return np.rint(values * _LARGEST).astype(np.uint16)
    return values.astype(dtype)


def unpack_unit(stored: Shaped[np.ndarray, "..."]) -> Float32[np.ndarray, "..."]:
    """Return what `pack_unit` stored, in float32.

    >>> unpack_unit(np.array([0, 65535], np.uint16)).tolist()
    [0.0, 1.0]
    """
    if stored.dtype == np.uint16:
        return stored / _LARGEST
    return stored.astype(np.float32)
