"""The windows of a volume in which its organs are looked at, one for organs that share it."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Integer
from scipy.ndimage import find_objects

from medvlp.data.windows import window_placement
from medvlp.types import Size3D

Window = tuple[slice, ...]


def organ_windows(
    anatomy_mask: Integer[np.ndarray, "d h w"],
    num_organs: int,
    window: Size3D | None,
    *,
    compat: Literal["published"] | None = None,
) -> list[tuple[Window, list[int]]]:
    """Group the organs that are there by the window that shows them.

    Args:
        anatomy_mask: Organ number + 1, 0 elsewhere.
        num_organs: Labels above are left out.
        window: Smallest size of a window, see `window_placement`; None for the whole volume.
        compat: See `window_placement`.

    Returns:
        Each window with the numbers of its organs. An organ of zero voxels is in none.

    >>> mask = np.array([[[1, 2, 0, 0, 0, 4]]])
    >>> [(cut[2], organs) for cut, organs in organ_windows(mask, 4, (1, 1, 4))]
    [(slice(0, 4, None), [0, 1]), (slice(2, 6, None), [3])]
    """
    groups: list[tuple[Window, list[int]]] = []  # slices have no hash
    size = anatomy_mask.shape
    for organ, box in enumerate(find_objects(anatomy_mask, max_label=num_organs)):
        if box is None:
            continue
        cut = window_placement(
            size,
            size if window is None else window,
            organ_min=[side.start for side in box],
            organ_max=[side.stop - 1 for side in box],
            compat=compat,
        )
        shared = next((organs for other, organs in groups if other == cut), None)
        if shared is None:
            groups.append((cut, [organ]))
        else:
            shared.append(organ)
    return groups


def end_padding(size: Sequence[int], multiple: Size3D) -> Size3D:
    """Count the voxels to be added along each axis to reach a multiple.

    >>> end_padding((45, 64, 90), (16, 16, 32))
    (3, 0, 6)
    """
    d, h, w = (-length % whole for length, whole in zip(size, multiple, strict=True))
    return d, h, w
