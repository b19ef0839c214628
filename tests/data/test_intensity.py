import numpy as np
import pytest

from medvlp.data.intensity import Bytes, HounsfieldWindow, Intensity, Percentiles
from medvlp.data.scan import Rescale, Scan
from medvlp.data.unit_range import check_unit_dtype, pack_unit, unpack_unit


def line(*values: float) -> np.ndarray:
    return np.array(values, np.float32).reshape(1, 1, -1)


def scan_of(array: np.ndarray, modality: str, intercept: float = 0.0) -> Scan:
    rescale = Rescale(1.0, intercept)
    return Scan(array, np.eye(4), (1.0, 1.0, 1.0), "SPL", rescale, modality=modality)


def test_percentiles_by_hand() -> None:
    # of 0..4 the 25th and 75th percentile are 1 and 3; 12.5 lies half way between 0 and 1
    assert Percentiles(25.0, 75.0)(line(0, 1, 2, 3, 4)).ravel().tolist() == [0, 0, 0.5, 1, 1]
    assert Percentiles(12.5, 100.0)(line(0, 1, 2, 3, 4))[0, 0, 1] == pytest.approx(0.5 / 3.5)


def test_percentiles_refuse_an_empty_scan_and_ct() -> None:
    with pytest.raises(ValueError, match="both 7"):
        Percentiles()(line(7, 7, 7))
    with pytest.raises(ValueError, match="CT scan"):
        Percentiles().check(scan_of(line(0, 1), "CT"))


def test_window_by_hand_and_its_modality() -> None:
    window = HounsfieldWindow(0.0, 80.0)
    assert window(line(-1000, 0, 20, 80, 900)).ravel().tolist() == [0, 0, 0.25, 1, 1]
    with pytest.raises(ValueError, match="MR scan"):
        window.check(scan_of(line(0, 1), "MR"))


def test_a_window_demands_hounsfield_units() -> None:
    raw = np.full((4, 8, 8), 24.0, np.float32)
    raw[:, 2:6, 2:6] = 1064.0
    with pytest.raises(ValueError, match="intercept is missing"):
        HounsfieldWindow(0.0, 80.0).check(scan_of(raw, "CT"))
    HounsfieldWindow(0.0, 80.0).check(scan_of(raw, "CT", -1024.0))


def test_bytes() -> None:
    assert Bytes()(line(0, 51, 255)).ravel().tolist() == pytest.approx([0, 0.2, 1])
    for values in ([0, 256], [-1, 200], [0.1, 1.0]):
        with pytest.raises(ValueError, match="expected bytes"):
            Bytes()(line(*values))


@pytest.mark.parametrize(
    "make", [lambda: Percentiles(5.0, 5.0), lambda: HounsfieldWindow(80.0, 0.0)]
)
def test_impossible_rules(make: type[Intensity]) -> None:
    with pytest.raises(ValueError, match="expected"):
        make()


def test_unit_range_keeps_its_ends_and_is_finer_than_half_precision() -> None:
    values = np.linspace(0, 1, 1001, dtype=np.float32)
    errors = {}
    for dtype in ("uint16", "float16", "float32"):
        back = unpack_unit(pack_unit(values, dtype))
        assert back.dtype == np.float32
        assert (back[0], back[-1]) == (0.0, 1.0)
        errors[dtype] = float(np.abs(back - values).max())
    assert errors["float32"] == 0
    assert errors["uint16"] <= 0.5 / 65535 + 1e-7 < errors["float16"]
    with pytest.raises(ValueError, match="'int8', expected"):
        check_unit_dtype("int8")
