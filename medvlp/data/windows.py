"""Where to cut a window out of a volume so that it shows an organ."""

from collections.abc import Sequence
from typing import Literal


def window_placement(
    volume: Sequence[int],
    window: Sequence[int],
    *,
    organ_min: Sequence[int],
    organ_max: Sequence[int],
    compat: Literal["published"] | None = None,
) -> tuple[slice, ...]:
    """Centre a window on the box of an organ and push it back into the volume.

    The window grows along an axis where the organ is longer. Where the volume is smaller than the
    window, the whole axis is taken.

    Args:
        volume: Its size along (d, h, w).
        window: Smallest size of the cut.
        organ_min: First index of the organ along each axis.
        organ_max: Last index of the organ, inclusive.
        compat: "published" compares the window with max - min, one less than the length of the
            organ: one that is longer than the window loses its last layer. So does one of the
            very length of the window where that is even. All other windows are the same.

    Raises:
        ValueError: If the box is empty or not inside the volume.

    Reference: fVLM, published zero-shot evaluation.

    >>> window_placement((100, 50, 20), (10, 10, 30), organ_min=(2, 20, 5), organ_max=(3, 40, 9))
    (slice(0, 10, None), slice(20, 41, None), slice(0, 20, None))
    """
    axes = zip(volume, window, organ_min, organ_max, strict=True)
    return tuple(_along_axis(*lengths, published=compat == "published") for lengths in axes)


def _along_axis(length: int, window: int, first: int, last: int, *, published: bool) -> slice:
    if not 0 <= first <= last < length:
        raise ValueError(f"the organ lies from {first} to {last} in {length} voxels")
    extent = max(window, last - first + (0 if published else 1))
    start = max(0, (first + last) // 2 - extent // 2)
    if not published:
        start = max(start, last + 1 - extent)
    end = min(length, start + extent)
    if end - start < extent:
        start = max(0, end - extent)
    return slice(start, end)
