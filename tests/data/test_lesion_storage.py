"""What is stored of volumes: their values, in no more memory than they need."""

from typing import Any

import numpy as np
import pytest

from medvlp.data.lesion_storage import stored_image, stored_pet
from medvlp.data.scan import Rescale, Scan


def scan(array: np.ndarray, rule: Rescale | None = None) -> Scan:
    return Scan(array, np.eye(4), (1.0, 1.0, 1.0), "SAR", rule or Rescale())


def hounsfield(dtype: Any = np.int16) -> np.ndarray:
    return np.linspace(-1000, 300, 60).astype(dtype).reshape(3, 4, 5)


@pytest.mark.parametrize("dtype", ["int16", "float32"])
def test_whole_numbers_are_not_copied(dtype: str) -> None:
    ct = scan(hounsfield())
    assert stored_image(ct, dtype) is ct.array
    shifted = scan(hounsfield() + 1024, Rescale(1.0, -1024.0))
    stored = stored_image(shifted, dtype)
    assert stored.dtype == np.int16 and np.array_equal(stored, ct.array)


def test_fractions_and_large_numbers_stay_in_float32() -> None:
    halves = scan(hounsfield() * 2, Rescale(0.5, 0.25))
    stored = stored_image(halves, "float32")
    assert stored.dtype == np.float32 and stored[0, 0, 0] == -999.75
    large = scan(hounsfield(np.int32))
    large.array[0, 0, 1] = 40_000
    assert stored_image(large, "float32").dtype == np.float32
    with pytest.raises(ValueError, match="to 40000, which int16 cannot hold"):
        stored_image(large, "int16")


def test_a_falling_rule_has_its_range_the_right_way_round() -> None:
    pet = scan(np.arange(-24, 0, dtype=np.int16).reshape(2, 3, 4), Rescale(-1.0, 0.0))
    assert stored_pet(pet, "float16").max() == 24
    nothing = scan(np.zeros((2, 2, 2), np.float32))
    with pytest.raises(ValueError, match="nothing above 0"):
        stored_pet(nothing, "float32")
