"""A PET/CT of a whole body with many lesions, and HCL-AL's two models at full size, in files."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from numpy.random import Generator

from medvlp import config
from medvlp.checkpoints.adapter import to_published
from medvlp.checkpoints.hcl_al_rules import HCL_AL
from medvlp.checkpoints.model_configs import build_model
from medvlp.data.lesion_recipe import LesionRecipe
from medvlp.types import Size3D, Spacing3D

PET_SPACING_MM = (3.0, 4.0, 4.0)
_BODY_MM = (190.0, 130.0)  # half axes of a slice of the body, x y
_RADIUS_MM = (4.0, 15.0)
_GAP_MM = 5.0
_AIR_HU, _TISSUE_HU, _NOISE_HU = -1000, 40, 20
_HOT_SUV, _USUAL_SUV = 8.0, 1.0


@dataclass(frozen=True)
class Lattice:
    """Where the voxels of a volume lie; its middle is the world's origin.

    Attributes:
        shape: Slices, rows, columns.
        spacing_mm: Along the same axes.
    """

    shape: Size3D
    spacing_mm: Spacing3D

    def axis_mm(self, axis: int) -> Float[np.ndarray, " n"]:
        """Give the places of the voxels' centres along an axis (d, h, w), LPS."""
        count = self.shape[axis]
        return ((np.arange(count) - (count - 1) / 2) * self.spacing_mm[axis]).astype(np.float32)

    def around(self, ball: Sequence[float]) -> tuple[tuple[slice, slice, slice], np.ndarray]:
        """Give the part of the lattice around a ball (x, y, z, radius), and what lies in it."""
        x, y, z, radius = ball
        away: list[np.ndarray] = []
        parts: list[slice] = []
        for axis, place in enumerate((z, y, x)):
            mm = self.axis_mm(axis)
            low, high = np.searchsorted(mm, [place - radius, place + radius])
            parts.append(slice(int(low), int(high)))
            away.append((mm[low:high] - place) ** 2)
        d, h, w = away
        inside = d[:, None, None] + h[:, None] + w <= radius**2
        return (parts[0], parts[1], parts[2]), inside

    def save(self, path: Path, array: np.ndarray) -> Path:
        """Write NIfTI whose columns run to the left, rows to the back, slices upwards."""
        import nibabel as nib
        from nibabel.openers import Opener

        d, h, w = self.spacing_mm
        affine = np.diag([-w, -h, d, 1.0])
        ends = [self.axis_mm(axis)[0] for axis in (2, 1, 0)]
        affine[:3, 3] = [-ends[0], -ends[1], ends[2]]
        Opener.default_compresslevel = 1
        nib.save(nib.Nifti1Image(array.T, affine), path)
        return path


def write_study(folder: Path, ct: Lattice, pet: Lattice, num_lesions: int) -> list[Path]:
    """Write CT (int16), PET (SUV, float32) on its own lattice, and lesions numbered on the CT's.

    Args:
        folder: Exists.
        ct: Of the CT and of the mask.
        pet: Of the PET.
        num_lesions: Balls of 4 to 15 mm that do not touch.

    Raises:
        ValueError: If so many do not fit.
    """
    generator = np.random.default_rng(0)
    lesions = _balls(ct, num_lesions, generator)
    mask = np.zeros(ct.shape, np.uint8 if num_lesions < 256 else np.uint16)
    suv = np.zeros(pet.shape, np.float32)
    suv[:, _body(pet)] = _USUAL_SUV
    suv *= generator.random(pet.shape, np.float32) + np.float32(0.5)
    for number, ball in enumerate(lesions, start=1):
        part, inside = ct.around(ball)
        mask[part][inside] = number
        part, inside = pet.around(ball)
        suv[part][inside] = _HOT_SUV
    hu = np.empty(ct.shape, np.int16)
    body = np.where(_body(ct), _TISSUE_HU, _AIR_HU)
    for plane in hu:
        noise = generator.standard_normal(plane.shape, np.float32) * _NOISE_HU
        plane[...] = body + noise.astype(np.int16)
    return [
        ct.save(folder / "CT.nii.gz", hu),
        pet.save(folder / "SUV.nii.gz", suv),
        ct.save(folder / "SEG.nii.gz", mask),
    ]


def write_stage(folder: Path, stage: Literal["coarse", "fine"]) -> Path:
    """Write a model of `conf/model` with random weights, as the published ones are stored."""
    tree = config.compose([f"experiment=hcl_al_{stage}", "paths.run=none"])
    torch.manual_seed(0)
    model = build_model(config.plain(tree.model, interpolate=True))
    weights = to_published(model.state_dict(), HCL_AL)
    content = {"state_dict": {f"module.{name}": tensor for name, tensor in weights.items()}}
    path = folder / f"{stage}.pth"
    torch.save(content | _beside(tree.data.recipe, stage), path)
    return path


def _beside(recipe: Any, stage: str) -> dict[str, Any]:
    """State a recipe as published files do."""
    from hydra.utils import instantiate

    built: LesionRecipe = instantiate(recipe, _convert_="all")
    grid, fields = built.grids[stage], [channel.field for channel in built.channels]
    return {
        "net": "ClipText_ResidualNet",
        "spacing": list(grid.spacing_mm),
        "crop_size": list(grid.size),
        "crop_normalizers": [
            {"type": 0, "mean": one.mean, "stddev": one.std, "clip": one.clip}
            for one in built.channels
        ],
        "interpolation": ["nn" if field == "lesion_mask" else "linear" for field in fields],
        "lesion_idx": [fields.index("lesion_mask")],
        "sample_method": "fixed_length",
    }


def _body(lattice: Lattice) -> np.ndarray:
    """Mark the body in a slice."""
    x, y = lattice.axis_mm(2) / _BODY_MM[0], lattice.axis_mm(1) / _BODY_MM[1]
    return y[:, None] ** 2 + x**2 <= 1


def _balls(lattice: Lattice, count: int, generator: Generator) -> list[tuple[float, ...]]:
    """Draw centres (x, y, z) and radii of balls in the body that do not touch."""
    height = lattice.shape[0] * lattice.spacing_mm[0] / 2
    half = np.array([_BODY_MM[0] / 2, _BODY_MM[1] / 2, height - _RADIUS_MM[1]])
    found: list[tuple[float, ...]] = []
    for _ in range(200 * count):
        if len(found) == count:
            return found
        center, radius = generator.uniform(-half, half), generator.uniform(*_RADIUS_MM)
        near = (
            sum((a - b) ** 2 for a, b in zip(center, other[:3], strict=True))
            < (radius + other[3] + _GAP_MM) ** 2
            for other in found
        )
        if not any(near):
            found.append((*center.tolist(), float(radius)))
    raise ValueError(f"{len(found)} of {count} lesions fit into a volume of {lattice.shape} voxels")
