"""The scans of one study, read and prepared for a network."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from medvlp.data.network_grid import ScanGrid, stored_axes
from medvlp.data.readers.registry import Irregular, read
from medvlp.data.recipe import Recipe
from medvlp.data.scan import Rescale, Scan
from medvlp.prediction.series import Series, Wanted
from medvlp.types import Spacing3D


@dataclass(frozen=True)
class Stated:
    """Facts of the scans that the user states in place of headers.

    Attributes:
        modality: DICOM code where the format does not say.
        rescale: Rule from stored numbers to HU.
        orientation: Letters of the array as stored, see `Scan.orientation`.
        irregular: See `medvlp.data.readers.registry.read`.
    """

    modality: str | None = None
    rescale: Rescale | None = None
    orientation: str | None = None
    irregular: Irregular = "refuse"


@dataclass(frozen=True)
class StudyScan:
    """One scan, ready for the network.

    Attributes:
        series: Where it came from.
        image: Network input (c d h w).
        beside: What else the recipe gives a network of the scan, such as "slice_features".
        grid: How the input lies in the scan.
        affine: Of the scan's file, from the index (i, j, k) to RAS+ millimetres.
        stored_mm: Spacing of what the recipe stores (d, h, w).
    """

    series: Series
    image: Float[Tensor, "c d h w"]
    beside: Mapping[str, Tensor]
    grid: ScanGrid
    affine: Float[np.ndarray, "4 4"]
    stored_mm: Spacing3D

    @property
    def spacing_mm(self) -> Spacing3D:
        """Spacing of the network's voxels (d, h, w).

        Raises:
            ValueError: If it is not known how the recipe places volumes.
        """
        axes = stored_axes(self.grid.recipe, self.grid.stored_shape)
        depth, height, width = (
            mm * axis.step for mm, axis in zip(self.stored_mm, axes, strict=True)
        )
        return depth, height, width


def read_study(
    found: Sequence[Series], recipe: Recipe, stated: Stated, *, wanted: Wanted, several: bool
) -> tuple[list[StudyScan], list[Series]]:
    """Read the scans that are used; one that cannot be is left out with the reason.

    Args:
        found: See `choose`.
        recipe: Of the network.
        stated: By the user.
        wanted: For formats that say how many slices they have only when they are read.
        several: Whether the network takes several scans of a study; else the scan with the most
            slices is taken.

    Returns:
        The scans, and all of `found` with what has become of each.

    Raises:
        ValueError: If no scan is left, with all reasons.
    """
    scans: list[StudyScan] = []
    accounts: list[Series] = []
    for series in found:
        made = series if series.left_out else _read(series, recipe, stated, wanted)
        accounts.append(made if isinstance(made, Series) else made.series)
        if isinstance(made, StudyScan):
            scans.append(made)
    if not scans:
        reasons = "; ".join(f"{one.label}: {one.left_out}" for one in accounts)
        raise ValueError(f"no scan can be used: {reasons}")
    if several or len(scans) == 1:
        return scans, accounts
    best = max(scans, key=lambda scan: (scan.series.kind != "derived", scan.series.num_slices))
    reason = "the model takes one scan of a study: the one with the most slices, originals first"
    accounts = [
        replace(one, left_out=reason) if not one.left_out and one is not best.series else one
        for one in accounts
    ]
    return [best], accounts


def study_image(scans: Sequence[StudyScan]) -> Float[Tensor, "s c d h w"]:
    """Stack the network inputs of a study."""
    return torch.stack([scan.image for scan in scans])


def slice_features(scans: Sequence[StudyScan]) -> Float[Tensor, "s m f"] | None:
    """Stack the features of slices; None if the recipe makes none."""
    features = [scan.beside.get("slice_features") for scan in scans]
    there = [one for one in features if one is not None]
    return torch.stack(there) if there else None


def read_series(series: Series, stated: Stated) -> Scan:
    """Read one scan, with what the user states of it."""
    scan = read(series.path, series.files, irregular=stated.irregular)
    return scan.restated(
        rescale=stated.rescale,
        orientation=stated.orientation,
        modality=None if series.modality else stated.modality,
    )


def _read(series: Series, recipe: Recipe, stated: Stated, wanted: Wanted) -> StudyScan | Series:
    try:
        scan = read_series(series, stated)
        series = replace(series, modality=scan.modality, num_slices=scan.array.shape[-3])
        if reason := wanted.too_few(series.num_slices):
            return replace(series, left_out=reason)
        return _prepare(series, scan, recipe)
    except (ValueError, OSError) as error:
        return replace(series, left_out=" ".join(str(error).split()))


def _prepare(series: Series, scan: Scan, recipe: Recipe) -> StudyScan:
    prepared = recipe.prepare(scan)
    stored = prepared.arrays["image"]

    def read_field(name: str, region: Any) -> np.ndarray:
        array = prepared.arrays[name]
        return array if region is None else array[region]

    facts: Mapping[str, Any] = {**prepared.facts, "shape": list(stored.shape)}
    depth, height, width = np.linalg.norm(
        np.asarray(prepared.facts["affine"])[:3, :3], axis=0
    ).tolist()
    inputs = recipe.inputs(read_field, facts)
    return StudyScan(
        series=series,
        image=inputs.pop("image"),
        beside=inputs,
        grid=ScanGrid.of(recipe, scan, stored.shape, prepared.facts),
        affine=scan.affine,
        stored_mm=(depth, height, width),
    )
