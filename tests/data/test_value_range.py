import numpy as np
import pytest

from medvlp.data.value_range import require_finite, thinned, value_range


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_single_bad_value_is_found(value: float, dtype: str) -> None:
    array = np.zeros((4, 5, 6), dtype)
    array[3, 4, 5] = value
    with pytest.raises(ValueError, match="prepared pet has values that are not finite"):
        require_finite({"image": np.zeros((1, 1, 1), np.int16), "pet": array[::-1]})


def test_large_numbers_and_read_only_memory_pass() -> None:
    array = np.full((4, 5, 6), 60000, np.float16)
    array.flags.writeable = False
    require_finite({"image": array})


def test_the_range_of_a_thinned_volume_is_that_of_the_volume() -> None:
    array = np.random.default_rng(0).normal(0, 100, (90, 91, 92))
    low, high = value_range(thinned(array))
    assert (low, high) == pytest.approx(value_range(array), abs=5)
    assert thinned(array[None, :4, :5, :6]).shape == (1, 4, 5, 6)
