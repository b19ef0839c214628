"""A phantom head study: who it is, what was found, and its painting on a reference lattice."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, UInt8

from medvlp.phantom.grid import Grid
from medvlp.phantom.head_anatomy import Head, paint_head, sample_head
from medvlp.phantom.head_bleeds import (
    paint_epidural,
    paint_fracture,
    paint_intraparenchymal,
    paint_intraventricular,
    paint_subarachnoid,
    paint_subdural,
)
from medvlp.phantom.head_canvas import HeadCanvas
from medvlp.phantom.head_lesion import BLEEDS, HeadLesion, sample_lesion
from medvlp.phantom.head_tumours import (
    paint_cyst,
    paint_glioma,
    paint_meningioma,
    paint_metastases,
    paint_stroke,
)
from medvlp.types import Size3D

EXTENT_MM = (186.0, 226.0, 182.0)
"""What the reference lattice covers along z, y, x: scalp and some air around it."""

MIDLINE_SHIFT_MM, MASS_EFFECT_MM = 5.0, 2.0
"""From which shift on a study counts as shifted, and as pressed upon."""

_PAINTERS = {
    "stroke": paint_stroke,
    "glioma": paint_glioma,
    "meningioma": paint_meningioma,
    "metastasis": paint_metastases,
    "cyst": paint_cyst,
    "intraparenchymal": paint_intraparenchymal,
    "intraventricular": paint_intraventricular,
    "subarachnoid": paint_subarachnoid,
    "subdural": paint_subdural,
    "epidural": paint_epidural,
    "fracture": paint_fracture,
}
_PUSH = {"subdural": 0.75, "epidural": 0.16, "intraparenchymal": 0.14, "glioma": 0.12}
"""Millimetres of shift per millimetre of size."""


@dataclass(frozen=True)
class HeadStudy:
    """A person on one day.

    Attributes:
        head: The anatomy, midline as the findings push it.
        lesions: In the order of painting.
        large_ventricles: Whether the ventricles are wider than they should be.
    """

    head: Head
    lesions: tuple[HeadLesion, ...]
    large_ventricles: bool = False

    @property
    def kinds(self) -> frozenset[str]:
        """Return the kinds of findings."""
        return frozenset(lesion.kind for lesion in self.lesions)

    @property
    def bleeds(self) -> tuple[HeadLesion, ...]:
        """Return the findings that are blood."""
        return tuple(lesion for lesion in self.lesions if lesion.kind in BLEEDS)


@dataclass(frozen=True)
class PaintedHead:
    """A study on the reference lattice, ready to be scanned from any direction.

    Attributes:
        grid: In true millimetres of the patient.
        contrasts: Names of the volumes.
        values: One volume per contrast.
        organs: Ids of `head_canvas.ORGANS`.
        findings: Ids of `head_canvas.FINDINGS`.
        brain: Share of each voxel that is left when scalp and skull are taken away.
    """

    grid: Grid
    contrasts: tuple[str, ...]
    values: Float[np.ndarray, "c d h w"]
    organs: UInt8[np.ndarray, "d h w"]
    findings: UInt8[np.ndarray, "d h w"]
    brain: Float[np.ndarray, "d h w"]


def sample_head_study(
    person_seed: tuple[int, ...],
    study_seed: tuple[int, ...],
    kinds: Sequence[str],
    *,
    side: str | None = None,
    large_ventricles: bool = False,
) -> HeadStudy:
    """Draw a study.

    Args:
        person_seed: Decides the anatomy.
        study_seed: Decides place and size of the findings.
        kinds: What is found.
        side: Side of every finding; None draws one for the study.
        large_ventricles: Widen the ventricles.
    """
    head = sample_head(np.random.default_rng((*person_seed, 0)))
    rng = np.random.default_rng((*study_seed, 1))
    side = side or ("left", "right")[int(rng.integers(2))]
    lesions = tuple(
        sample_lesion(kind, np.random.default_rng((*study_seed, 2 + number)), side=side)
        for number, kind in enumerate(kinds)
    )
    # away from the side of the mass; the left half lies at positive x
    push = sum(_PUSH.get(lesion.kind, 0.0) * lesion.size_mm for lesion in lesions)
    push = float(np.clip(push - 1.0, 0.0, 13.0))
    shift_mm = -push if side == "left" else push
    radius = head.ventricle_mm * (1.9 if large_ventricles else 1.0)
    head = replace(head, shift_mm=shift_mm, ventricle_mm=radius)
    return HeadStudy(head, lesions, large_ventricles)


def paint_head_study(
    study: HeadStudy, contrasts: Sequence[str], *, spacing_mm: float
) -> PaintedHead:
    """Paint a study in all contrasts on one lattice, from which `head_scan` takes every scan.

    Args:
        study: As drawn.
        contrasts: Of `head_tissues.CONTRASTS`.
        spacing_mm: Of the lattice.
    """
    shape = tuple(int(np.ceil(extent / spacing_mm)) for extent in EXTENT_MM)
    size: Size3D = (shape[0], shape[1], shape[2])
    grid = Grid(size, (spacing_mm, spacing_mm, spacing_mm))
    canvas = HeadCanvas(grid.scaled(study.head.scale), tuple(contrasts))
    paint_head(canvas, study.head)
    for lesion in study.lesions:
        _PAINTERS[lesion.kind](canvas, study.head, lesion)
    brain = np.clip((canvas.inside - 0.5) / grid.edge_mm, 0, 1).astype(np.float32)
    return PaintedHead(grid, canvas.contrasts, canvas.values, canvas.organs, canvas.findings, brain)
