"""Maps of organs of a prepared study as files: NIfTI in the scan's world, and pictures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Float64, Integer
from torch import Tensor

from medvlp.data.manifest import Manifest, Row
from medvlp.data.recipe import Recipe
from medvlp.data.scan import orientation_of
from medvlp.evaluation.organ_heat import OrganHeat
from medvlp.evaluation.results import slug
from medvlp.phantom.nifti_file import write_nifti
from medvlp.prediction.pictures import Shown, overlay_planes


class OrganStudy(NamedTuple):
    """A study as a model of organs is given it in evaluation.

    Attributes:
        study_id: Of the study.
        image: Of its scan.
        anatomy_mask: Organ number + 1, 0 elsewhere.
        affine: Of the network's voxels, from the index (w, h, d), as files count, to RAS+ mm.
    """

    study_id: str
    image: Float[Tensor, "1 1 d h w"]
    anatomy_mask: Integer[Tensor, "1 d h w"]
    affine: Float64[np.ndarray, "4 4"]


def read_organ_study(manifest: Manifest, recipe: Recipe, study: Row, scan: int = 0) -> OrganStudy:
    """Read one scan of a prepared study.

    Args:
        manifest: Prepared with masks.
        recipe: That it was prepared under.
        study: Row of the manifest.
        scan: Which of its scans.
    """
    facts = study["scans"][scan]

    def read_field(name: str, region: Any) -> np.ndarray:
        return manifest.cache.read(facts["scan_id"], region, field=name)

    return organ_study(study["study_id"], recipe.inputs(read_field, facts), facts)


def organ_study(study_id: str, inputs: Mapping[str, Tensor], facts: Row) -> OrganStudy:
    """Put a prepared scan together.

    Args:
        study_id: Of the study.
        inputs: What the recipe gives in evaluation, see `Recipe.inputs`.
        facts: Of the preparation: shape and affine of what was stored.
    """
    image, affine = inputs["image"], np.array(facts["affine"], np.float64)
    padding = [(n - m) // 2 for n, m in zip(image.shape[1:], facts["shape"], strict=True)]
    affine[:3, 3] -= affine[:3, :3] @ padding
    mask = inputs["anatomy_mask"]
    return OrganStudy(study_id, image[None], mask[None], affine[:, [2, 1, 0, 3]])


def write_organ_heat(
    folder: Path, study: OrganStudy, heat: OrganHeat, *, organs: Sequence[int], names: Sequence[str]
) -> list[dict[str, Any]]:
    """Write a NIfTI file and a picture of each map that is not empty.

    Args:
        folder: Where to.
        study: That was mapped.
        heat: Its maps.
        organs: The number of each map's organ; the picture outlines it.
        names: Of the maps.

    Returns:
        For each map its name, score, files, and where its maximum lies; files are None for an
        organ that the study does not show, or where nothing speaks for the text.
    """
    folder.mkdir(parents=True, exist_ok=True)
    spacing = np.linalg.norm(study.affine[:3, :3], axis=0)[::-1]
    shown = Shown(
        study.image[0, 0].numpy(),
        orientation_of(study.affine),
        (float(spacing[0]), float(spacing[1]), float(spacing[2])),
    )
    written: list[dict[str, Any]] = []
    for values, organ, name, score in zip(
        heat.maps.numpy(), organs, names, heat.scores.tolist(), strict=True
    ):
        told: dict[str, Any] = {"name": name, "score": None if np.isnan(score) else score}
        told |= {"volume": None, "overlay": None, "maximum_ras_mm": None}
        if values.any():
            stem = f"organ_{slug(name)[:60]}"
            write_nifti(folder / f"{stem}.nii.gz", values, study.affine)
            region = study.anatomy_mask[0].numpy() == organ + 1
            title = name if np.isnan(score) else f"{name}: {score:.2f}"
            overlay_planes(folder / f"{stem}.png", shown, values, title, region=region)
            told |= {"volume": f"{stem}.nii.gz", "overlay": f"{stem}.png"}
            told["maximum_ras_mm"] = _maximum_mm(values, study.affine)
        written.append(told)
    return written


def _maximum_mm(values: Float[np.ndarray, "d h w"], affine: Float64[np.ndarray, "4 4"]) -> list:
    depth, height, width = np.unravel_index(int(values.argmax()), values.shape)
    return [round(float(mm), 1) for mm in (affine @ [width, height, depth, 1.0])[:3]]
