"""Sizes that come from configs."""

from collections.abc import Sequence

from medvlp.types import Size3D


def as_size(values: Sequence[int], name: str) -> Size3D:
    """Check a size given in YAML, where it is a list.

    >>> as_size([8, 24, 24], "patch_size")
    (8, 24, 24)

    Raises:
        ValueError: If it is not three positive numbers.
    """
    if len(values) != 3 or min(values) < 1:
        raise ValueError(
            f"{name} {list(values)} must be three positive numbers: depth, height, width"
        )
    return values[0], values[1], values[2]
