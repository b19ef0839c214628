"""The lesion channel of a patch: which voxels of the mask belong to the lesion that is meant."""

from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped

from medvlp.data.lesion_geometry import (
    Box,
    Compat,
    best_match,
    boxes_mm,
    components,
    grow,
)
from medvlp.data.lesion_patch import LPS, Frame, Volume, sample
from medvlp.data.records import Lesion

Match = Literal["spacing", "half spacing", "centre", "none"]


class LesionChannel(NamedTuple):
    """A mask on the lattice of a patch.

    Attributes:
        mask: 1 where the lesion is. As published, other numbers may be left where no component
            lies in the box.
        match: At which spacing the lesion was found; "centre" if at none, though it is there.
    """

    mask: Float[np.ndarray, "x y z"]
    match: Match


class MaskLesions(NamedTuple):
    """The lesions of a mask.

    Attributes:
        lesions: Their boxes, and labels in `mask`.
        mask: As it came, or with numbers of its components.
    """

    lesions: list[Lesion]
    mask: Shaped[np.ndarray, "d h w"]


def lesion_channel(
    volume: Volume,
    frame: Frame,
    box_mm: Float[np.ndarray, "6"],
    *,
    label: int = 0,
    compat: Compat = None,
) -> LesionChannel:
    """Find the lesion that is meant in the mask, and mark its voxels.

    By label, it is the voxels of that value. By box, it is the connected component whose own box
    overlaps the given one most. A lesion too small to be hit at the spacing of the patch is looked
    for at half of it, grown by a layer, and every second voxel is taken. Of one that is smaller
    still the sample next to its middle is marked.

    Published (Gao et al., IEEE TMI 2025): components of all values together; by label only the
    first attempt is made, by box the first two; growing may lose the lesion (see `grow`); and where
    no component overlaps the box, those stay whose number is larger than the number of components
    at half spacing, with their number as value. Right: lesions of different values stay apart, and
    where the mask has nothing in the box the channel is empty.

    Args:
        volume: The mask; 0 is background.
        frame: Of the patch.
        box_mm: Centre and sides, LPS.
        label: Value of the lesion in the mask; 0 goes by the box.
        compat: See `lesion_geometry`.
    """
    values = sample(volume, frame, "nearest")
    if label:
        found = _by_label(values, volume, frame, label, compat=compat)
    else:
        found = _by_box(values, volume, frame, box_mm, compat=compat)
    if found.match == "none" and compat is None:
        return _at_centre(volume, frame, box_mm, label)
    return found


def touched(volume: Volume, box_mm: Float[np.ndarray, "6"]) -> Box:
    """Give the voxels (d, h, w) that a box touches; none if it lies outside."""
    to_index = np.linalg.inv(LPS @ volume.affine[:3, :3])
    center = to_index @ (box_mm[:3] - LPS @ volume.affine[:3, 3])
    half = np.abs(to_index) @ box_mm[3:] / 2
    low = np.clip(np.floor(center - half + 0.5), 0, volume.shape).astype(int)
    high = np.clip(np.floor(center + half + 0.5) + 1, 0, volume.shape).astype(int)
    d, h, w = (slice(a, max(a, b)) for a, b in zip(low.tolist(), high.tolist(), strict=True))
    return d, h, w


def lesions_in_mask(
    mask: Shaped[np.ndarray, "d h w"], affine: Float[np.ndarray, "4 4"], *, compat: Compat = None
) -> MaskLesions:
    """List the lesions of a mask, where no table says which there are.

    Published: the components of all values together, boxes by the published rule, and as label
    the number of the component, which the coarse patch then looks for among the VALUES of the
    mask: right only if they happen to agree. Right: components of each value apart, and as label
    that value; where several components share one, the mask is made anew of their numbers.

    Args:
        mask: Whole, as read; axes (d, h, w) = the file's (k, j, i).
        affine: 4x4, from the file's index (i, j, k) to RAS mm.
        compat: See `lesion_geometry`.
    """
    volume = Volume.of_array(mask, affine[:, [2, 1, 0, 3]])
    numbered, boxes = components(mask, by_value=compat is None)
    numbers = list(range(1, len(boxes) + 1))
    if compat is None:
        values = [
            int(mask[box][numbered[box] == n][0]) for n, box in zip(numbers, boxes, strict=True)
        ]
        if len(set(values)) == len(values):
            numbers = values
        else:
            mask = numbered
    lesions: list[Lesion] = []
    placed = boxes_mm(boxes, volume.placement, compat=compat).tolist()
    for index, ((x, y, z, width, height, depth), label) in enumerate(
        zip(placed, numbers, strict=True), start=1
    ):
        lesions.append(Lesion(f"{index:03d}", (x, y, z, width, height, depth), label))
    return MaskLesions(lesions, mask)


def _by_box(
    values: Shaped[np.ndarray, "x y z"],
    volume: Volume,
    frame: Frame,
    box_mm: Float[np.ndarray, "6"],
    *,
    compat: Compat,
) -> LesionChannel:
    labels, boxes = _components(values, compat)
    number = best_match(boxes_mm(boxes, frame.placement, compat=compat), box_mm)
    if number:
        return _channel(labels == number, "spacing")
    fine = frame.halved()
    fine_labels, fine_boxes = _components(sample(volume, fine, "nearest"), compat)
    number = best_match(boxes_mm(fine_boxes, fine.placement, compat=compat), box_mm)
    if number:
        grown = grow(fine_labels == number, compat=compat)
        return _channel(grown[::2, ::2, ::2], "half spacing")
    left = np.where(labels > len(fine_boxes), labels, 0) if compat == "published" else labels * 0
    return _channel(left, "none")


def _by_label(
    values: Shaped[np.ndarray, "x y z"],
    volume: Volume,
    frame: Frame,
    label: int,
    *,
    compat: Compat,
) -> LesionChannel:
    chosen = (values == label).T
    if compat == "published" or chosen.any():
        return _channel(chosen, "spacing" if chosen.any() else "none")
    fine = (sample(volume, frame.halved(), "nearest") == label).T
    return _channel(grow(fine)[::2, ::2, ::2], "half spacing" if fine.any() else "none")


def _at_centre(
    volume: Volume, frame: Frame, box_mm: Float[np.ndarray, "6"], label: int
) -> LesionChannel:
    """Mark the sample next to the middle of a lesion that no sample hits."""
    mask = np.zeros(frame.size, np.float32)
    away = frame.axes.T @ (box_mm[:3] - frame.origin_mm)
    x, y, z = (int(place) for place in np.rint(away / frame.spacing_mm))
    region = touched(volume, box_mm)
    is_empty = any(part.start == part.stop for part in region)
    if is_empty or not all(0 <= n < size for n, size in zip((x, y, z), frame.size, strict=True)):
        return LesionChannel(mask, "none")
    stored = volume.read(region)
    there = bool((stored == label).any() if label else stored.any())
    mask[x, y, z] = there
    return LesionChannel(mask, "centre" if there else "none")


def _components(
    values: Shaped[np.ndarray, "x y z"], compat: Compat
) -> tuple[Int[np.ndarray, "z y x"], list[Box]]:
    return components(values.T, by_value=compat is None)


def _channel(mask: Shaped[np.ndarray, "z y x"], match: Match) -> LesionChannel:
    return LesionChannel(np.ascontiguousarray(mask.T, dtype=np.float32), match)
