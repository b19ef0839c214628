"""Activation maps as pictures: the published one, and planes through the maximum."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float

from medvlp.data.scan import reorient
from medvlp.evaluation.activation import normalised
from medvlp.prediction.plane_figure import (
    Plane,
    PlaneLook,
    agg_figure,
    lay_over,
    plane_figure,
)
from medvlp.prediction.study import StudyScan
from medvlp.types import Spacing3D

_PUBLISHED_DPI = 300
_DISPLAY = "IPL"  # rows downwards to the feet or the back, columns to the patient's left
_PLANES = (("axial", 0), ("coronal", 1), ("sagittal", 2))


class Shown(NamedTuple):
    """A volume to be drawn.

    Attributes:
        image: Grey values.
        orientation: Letters of its axes.
        spacing_mm: Of its voxels (d, h, w).
        window: What is black and what is white; None takes the least and largest of each plane.
    """

    image: Float[np.ndarray, "D H W"]
    orientation: str
    spacing_mm: Spacing3D
    window: tuple[float, float] | None = None


def published_picture(
    path: Path, scans: Sequence[StudyScan], maps: Float[np.ndarray, "s D H W"], num_rows: int
) -> None:
    """Draw a map as HLIP publishes it.

    Rows are the depth patches, each by its centre slice floor((j + 0.5) * depth of a patch);
    columns are the scans. Each slice of the map is scaled to [0, 1] by its own ends, values below
    0.25 are hidden, the rest lies in jet over the grey slice with alpha 0.3.

    Args:
        path: PNG, at 300 dpi.
        scans: Of the study.
        maps: Of one finding, on the network's voxels.
        num_rows: Depth patches.
    """
    figure = agg_figure(figsize=(1.2 * len(scans), 1.2 * num_rows))
    axes = figure.subplots(num_rows, len(scans), squeeze=False)
    patch = maps.shape[1] / num_rows
    for row in range(num_rows):
        place = int((row + 0.5) * patch)
        for column, scan in enumerate(scans):
            ax = axes[row, column]
            ax.imshow(scan.image[0, place].numpy(), cmap="gray", interpolation="nearest")
            scaled = normalised(torch.from_numpy(maps[column, place]), [0, 1]).numpy()
            lay_over(ax, scaled)
            ax.set_axis_off()
    figure.subplots_adjust(0, 0, 1, 1, 0.02, 0.02)
    figure.savefig(path, dpi=_PUBLISHED_DPI)


def overlay_picture(
    path: Path, scan: StudyScan, values: Float[np.ndarray, "D H W"], title: str
) -> None:
    """Draw three planes through the maximum of a map over a scan, see `overlay_planes`.

    Args:
        path: PNG.
        scan: Of the study.
        values: The map of this scan on the network's voxels.
        title: Above the planes.
    """
    shown = Shown(scan.image[0].numpy(), scan.grid.orientation, scan.spacing_mm)
    overlay_planes(path, shown, values, title)


def overlay_planes(
    path: Path,
    shown: Shown,
    values: Float[np.ndarray, "D H W"],
    title: str,
    *,
    region: Bool[np.ndarray, "D H W"] | None = None,
) -> None:
    """Draw three planes through the maximum of a map, the patient upright.

    The map is scaled to [0, 1] over the scan; below 0.25 it is hidden. A cross marks the maximum.

    Args:
        path: PNG.
        shown: What lies below the map.
        values: On the same voxels.
        title: Above the planes.
        region: Whose outline is drawn.
    """
    grey, axes_of = reorient(shown.image, shown.orientation, _DISPLAY)
    scaled = normalised(torch.from_numpy(values), [0, 1, 2]).numpy()
    upright, _ = reorient(scaled, shown.orientation, _DISPLAY)
    marked = None if region is None else reorient(region, shown.orientation, _DISPLAY)[0]
    spacing = [shown.spacing_mm[axis] for axis in axes_of]
    peak = _middle_of_maximum(upright)
    looks: list[PlaneLook] = []
    planes: list[Plane] = []
    for name, normal in _PLANES:
        down, across = (axis for axis in range(3) if axis != normal)
        shape = (grey.shape[down], grey.shape[across])
        looks.append(PlaneLook(shape, spacing[down] / spacing[across], *_sides(name, down, across)))
        cut = (*[slice(None)] * normal, peak[normal])  # a view, where np.take copies all first
        cross, outlined = (peak[down], peak[across]), None if marked is None else marked[cut]
        planes.append(Plane(grey[cut], upright[cut], cross, outlined))
    num_lines = len(title.split("\n")) if title else 0
    plane_figure(tuple(looks), num_lines).save(path, planes, title, shown.window)


def _sides(plane: str, down: int, across: int) -> tuple[str, str]:
    """Name what is left, right, above and below in a plane."""
    right, below = _DISPLAY[across], _DISPLAY[down]
    return f"{plane}   {_opposite(right)} - {right}", f"{below} - {_opposite(below)}"


def _middle_of_maximum(values: np.ndarray) -> tuple[int, int, int]:
    """Take the voxel in the middle of all that share the largest value."""
    places = np.argwhere(values >= values.max() * (1 - 1e-6))
    nearest = np.abs(places - places.mean(0)).sum(1).argmin()
    depth, height, width = (int(index) for index in places[nearest])
    return depth, height, width


def _opposite(letter: str) -> str:
    return dict(zip("LRPAIS", "RLAPSI", strict=True))[letter]
