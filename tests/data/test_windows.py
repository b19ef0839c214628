import pytest

from medvlp.data.windows import window_placement


def placed(length: int, window: int, first: int, last: int, compat=None) -> tuple[int, int]:
    (cut,) = window_placement(
        (length,), (window,), organ_min=(first,), organ_max=(last,), compat=compat
    )
    return cut.start, cut.stop


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ((100, 10, 40, 48), (39, 49)),  # centre 44, half 5
        ((100, 10, 0, 1), (0, 10)),  # pushed in from below
        ((100, 10, 98, 99), (90, 100)),  # and from above
        ((100, 10, 20, 60), (20, 61)),  # longer organ: all of its 41 voxels
        ((100, 10, 40, 49), (40, 50)),  # as long as the window
        ((8, 10, 2, 5), (0, 8)),  # smaller volume
        ((10, 10, 0, 9), (0, 10)),
    ],
)
def test_placement_by_hand(case: tuple[int, int, int, int], expected: tuple[int, int]) -> None:
    assert placed(*case) == expected


@pytest.mark.parametrize(
    ("case", "expected"), [((100, 10, 20, 60), (20, 60)), ((100, 10, 40, 49), (39, 49))]
)
def test_published_windows_lose_the_last_layer(case, expected) -> None:
    assert placed(*case, compat="published") == expected


def test_windows_show_the_whole_organ_and_else_are_the_published_ones() -> None:
    for first in range(12):
        for last in range(first, 12):
            start, stop = placed(12, 5, first, last)
            assert start <= first and last < stop and stop - start == max(5, last - first + 1)
            published = placed(12, 5, first, last, "published")
            if published[0] <= first and last < published[1]:
                assert published == (start, stop)


@pytest.mark.parametrize(("first", "last"), [(-1, 3), (4, 3), (2, 10)])
def test_an_impossible_box_is_refused(first: int, last: int) -> None:
    with pytest.raises(ValueError, match="in 10 voxels"):
        placed(10, 5, first, last)
