from itertools import permutations, product

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from medvlp.data.resample import Taps, resample
from medvlp.data.scan import Rescale

TOLERANCE_HU = 1e-3


def random_hu(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(seed).integers(-1024, 3072, shape, dtype=np.int16)


def interpolated(array: np.ndarray, shape: tuple[int, ...], rescale: Rescale) -> np.ndarray:
    volume = torch.from_numpy(array.astype(np.float32).copy())
    volume = volume * rescale.slope + rescale.intercept
    return F.interpolate(volume[None, None], size=shape, mode="trilinear")[0, 0].numpy()


@pytest.mark.parametrize("rescale", [Rescale(), Rescale(1.0, -8192.0), Rescale(0.5, 3.0)])
@pytest.mark.parametrize(
    "shape", [(4, 9, 8), (12, 9, 8), (31, 20, 17), (1, 1, 1), (5, 20, 9), (12, 4, 20)]
)
def test_equals_interpolate_up_and_down(shape: tuple[int, ...], rescale: Rescale) -> None:
    array = random_hu(0, (12, 13, 11))
    ours = resample(array, shape, rescale=rescale)
    np.testing.assert_allclose(ours, interpolated(array, shape, rescale), rtol=0, atol=TOLERANCE_HU)


def test_equals_interpolate_for_every_order_and_direction_of_the_axes() -> None:
    array = random_hu(1, (9, 10, 11))
    for axes, steps in product(permutations(range(3)), product((1, -1), repeat=3)):
        view = array.transpose(axes)[tuple(slice(None, None, step) for step in steps)]
        ours = resample(view, (4, 13, 7))
        expected = interpolated(view, (4, 13, 7), Rescale())
        np.testing.assert_allclose(ours, expected, rtol=0, atol=TOLERANCE_HU)
        assert ours.flags.c_contiguous


def test_positions_are_those_of_pytorch_at_real_sizes() -> None:
    # plain float32, or float64, would be 0.1 HU off: see `Taps`
    for length, new_length in np.random.default_rng(2).integers(200, 700, (200, 2)).tolist():
        row = torch.from_numpy(random_hu(length, (1, length)).astype(np.float32))
        theirs = F.interpolate(row[None], size=new_length, mode="linear")[0]
        ours = Taps.of(length, new_length).blend(row, 1)
        torch.testing.assert_close(ours, theirs, rtol=0, atol=TOLERANCE_HU)


def test_half_precision_meets_ties_as_pytorch_does() -> None:
    # whole HU and simple fractions: many results lie half way between two float16 numbers
    array = random_hu(3, (301, 24, 24))
    for shape in ((97, 17, 24), (100, 18, 17), (301, 24, 18), (320, 32, 24)):
        ours = resample(array, shape, store_dtype="float16")
        theirs = interpolated(array, shape, Rescale()).astype(np.float16)
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("kind", ["<i2", "u1", "u2", "i4", "f4", "f8", "u4", "i8"])
def test_every_number_type_and_read_only_memory(kind: str) -> None:
    array = random_hu(4, (4, 5, 6)).clip(0, 255).astype(kind)
    array.flags.writeable = False
    expected = interpolated(array, (2, 5, 9), Rescale())
    np.testing.assert_allclose(resample(array, (2, 5, 9)), expected, rtol=0, atol=TOLERANCE_HU)


def test_storage_rounds_once() -> None:
    array = random_hu(5, (6, 7, 8))
    exact = resample(array, (3, 5, 9))
    np.testing.assert_array_equal(
        resample(array, (3, 5, 9), store_dtype="float16"), exact.astype(np.float16)
    )
    whole = resample(array, (3, 5, 9), store_dtype="int16")
    np.testing.assert_array_equal(whole, np.rint(exact).astype(np.int16))


def test_a_grid_that_fits_is_kept_to_the_last_bit() -> None:
    array = random_hu(6, (3, 4, 5))
    np.testing.assert_array_equal(resample(array, (3, 4, 5), store_dtype="int16"), array)


@pytest.mark.parametrize("value", [1e6, np.nan, -np.inf])
def test_values_that_cannot_be_stored_are_refused(value: float) -> None:
    array = np.zeros((3, 4, 5), np.float32)
    array[2, 3, 4] = value
    with pytest.raises(ValueError, match="cannot hold"):
        resample(array, (3, 4, 5), store_dtype="float16")


def test_another_device_agrees() -> None:
    array = random_hu(7, (8, 9, 10))[:, ::-1]
    whole = resample(array, (3, 12, 10), rescale=Rescale(1.0, -24.0), device="cpu:0")
    planes = resample(array, (3, 12, 10), rescale=Rescale(1.0, -24.0))
    np.testing.assert_allclose(whole, planes, rtol=0, atol=TOLERANCE_HU)
