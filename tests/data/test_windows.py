import pytest

from medvlp.data.windows import window_placement


def placed(length: int, window: int, first: int, last: int) -> tuple[int, int]:
    (cut,) = window_placement((length,), (window,), organ_min=(first,), organ_max=(last,))
    return cut.start, cut.stop


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ((100, 10, 40, 49), (39, 49)),  # centre 44, half 5
        ((100, 10, 0, 1), (0, 10)),  # pushed in from below
        ((100, 10, 98, 99), (90, 100)),  # and from above
        ((100, 10, 20, 60), (20, 60)),  # longer organ: 40 voxels of its 41
        ((8, 10, 2, 5), (0, 8)),  # smaller volume
        ((10, 10, 0, 9), (0, 10)),
    ],
)
def test_placement_by_hand(case: tuple[int, int, int, int], expected: tuple[int, int]) -> None:
    assert placed(*case) == expected


@pytest.mark.parametrize(("first", "last"), [(-1, 3), (4, 3), (2, 10)])
def test_an_impossible_box_is_refused(first: int, last: int) -> None:
    with pytest.raises(ValueError, match="in 10 voxels"):
        placed(10, 5, first, last)
