"""What is true of painted chests: masks beside the data set, and the facts of every finding."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from medvlp.phantom.canvas import ORGANS
from medvlp.phantom.finding import LABELS, Finding, finding_id
from medvlp.phantom.findings import KINDS
from medvlp.phantom.nifti_file import write_nifti
from medvlp.phantom.study import PaintedVolume, PhantomStudy
from medvlp.phantom.tables import write_json


def write_masks(
    root: Path, name: str, painted: PaintedVolume, affine: Float[np.ndarray, "4 4"]
) -> None:
    """Write the masks of organs and findings of a volume, on its own grid.

    Args:
        root: Of the twin; the masks go into `ground_truth/organs` and `ground_truth/findings`.
        name: File name, with .nii.gz.
        painted: Axes as the volume is stored.
        affine: From its indices (x, y, z) to RAS millimetres.
    """
    for kind, mask in (("organs", painted.organs), ("findings", painted.findings)):
        folder = root / "ground_truth" / kind
        folder.mkdir(parents=True, exist_ok=True)
        write_nifti(folder / name, mask, affine)


def write_truth(root: Path, studies: dict[str, Any]) -> None:
    """Write the names of the ids in the masks (`labels.json`) and the facts of all studies."""
    tiers = {kind.name: kind.tier for kind in KINDS}
    ids = {
        "organs": dict(enumerate(ORGANS)),
        "findings": {finding_id(name): name for name in LABELS},
        "tiers": {name: tiers[name] for name in LABELS},
    }
    write_json(root / "ground_truth" / "labels.json", ids)
    write_json(root / "ground_truth" / "studies.json", studies)


def truth_of(study: PhantomStudy, volumes: Sequence[str]) -> dict[str, Any]:
    """State what is true of a session.

    Args:
        study: What was painted.
        volumes: Names of its files.
    """
    return {
        "sex": study.thorax.sex,
        "volumes": list(volumes),
        "findings": [attributes(study, finding) for finding in study.findings],
    }


def attributes(study: PhantomStudy, finding: Finding) -> dict[str, Any]:
    """State what is true of a finding; places in RAS millimetres, as the affine has them."""
    points = finding.points * np.asarray(study.thorax.scale)
    parts = np.round(points[:, ::-1] * np.asarray([-1.0, -1.0, 1.0]), 1)
    return {
        "name": finding.name,
        "id": finding_id(finding.name),
        "side": finding.side,
        "place": finding.place,
        "degree": finding.degree,
        "size_mm": round(study.size_mm(finding), 1),
        "center_ras_mm": np.round(parts.mean(0), 1).tolist() if len(parts) else None,
    }
