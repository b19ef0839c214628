"""The 18 findings of CT-RATE: what each is called, how hard it is, how it is drawn and painted."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from medvlp.phantom import findings_chest, findings_diffuse, findings_focal
from medvlp.phantom.canvas import Canvas
from medvlp.phantom.finding import LABELS, Finding, Request
from medvlp.phantom.thorax import Thorax


@dataclass(frozen=True)
class FindingKind:
    """How one finding comes about.

    Attributes:
        name: Its label.
        tier: `large` if it covers many tokens of a small network, else `focal`.
        sides: Where it can be; an empty string if side means nothing to it.
        sample: Draws its place and size.
        paint: Puts it on a canvas that holds the thorax.
    """

    name: str
    tier: str
    sides: tuple[str, ...]
    sample: Callable[[Request], Finding]
    paint: Callable[[Canvas, Thorax, Finding], None]


_NO_SIDE = ("",)
_EITHER = ("left", "right")

# In the order of painting: what is diffuse first, so that what is small stays on top of it.
KINDS: tuple[FindingKind, ...] = tuple(
    FindingKind(*row)
    for row in (
        (
            "Cardiomegaly",
            "large",
            _NO_SIDE,
            findings_chest.sample_cardiomegaly,
            findings_chest.paint_cardiomegaly,
        ),
        (
            "Pericardial effusion",
            "large",
            _NO_SIDE,
            findings_chest.sample_pericardial_effusion,
            findings_chest.paint_pericardial_effusion,
        ),
        (
            "Emphysema",
            "focal",
            _NO_SIDE,
            findings_diffuse.sample_emphysema,
            findings_diffuse.paint_emphysema,
        ),
        (
            "Mosaic attenuation pattern",
            "large",
            _NO_SIDE,
            findings_diffuse.sample_mosaic,
            findings_diffuse.paint_mosaic,
        ),
        (
            "Interlobular septal thickening",
            "large",
            _NO_SIDE,
            findings_diffuse.sample_septal,
            findings_diffuse.paint_septal,
        ),
        (
            "Peribronchial thickening",
            "focal",
            _NO_SIDE,
            findings_diffuse.sample_peribronchial,
            findings_diffuse.paint_peribronchial,
        ),
        (
            "Bronchiectasis",
            "focal",
            _EITHER,
            findings_focal.sample_bronchiectasis,
            findings_focal.paint_bronchiectasis,
        ),
        (
            "Pulmonary fibrotic sequela",
            "focal",
            _EITHER,
            findings_focal.sample_fibrotic,
            findings_focal.paint_fibrotic,
        ),
        (
            "Lung opacity",
            "focal",
            _EITHER,
            findings_focal.sample_opacity,
            findings_focal.paint_opacity,
        ),
        (
            "Consolidation",
            "focal",
            _EITHER,
            findings_focal.sample_consolidation,
            findings_focal.paint_consolidation,
        ),
        (
            "Atelectasis",
            "focal",
            _EITHER,
            findings_focal.sample_atelectasis,
            findings_focal.paint_atelectasis,
        ),
        (
            "Lung nodule",
            "focal",
            _EITHER,
            findings_focal.sample_nodule,
            findings_focal.paint_nodule,
        ),
        (
            "Pleural effusion",
            "large",
            ("left", "right", "bilateral"),
            findings_diffuse.sample_pleural_effusion,
            findings_diffuse.paint_pleural_effusion,
        ),
        (
            "Lymphadenopathy",
            "focal",
            _NO_SIDE,
            findings_chest.sample_lymphadenopathy,
            findings_chest.paint_lymphadenopathy,
        ),
        (
            "Hiatal hernia",
            "focal",
            _NO_SIDE,
            findings_chest.sample_hiatal_hernia,
            findings_chest.paint_hiatal_hernia,
        ),
        (
            "Arterial wall calcification",
            "focal",
            _NO_SIDE,
            findings_chest.sample_arterial_calcification,
            findings_chest.paint_calcification,
        ),
        (
            "Coronary artery wall calcification",
            "focal",
            _NO_SIDE,
            findings_chest.sample_coronary_calcification,
            findings_chest.paint_calcification,
        ),
        (
            "Medical material",
            "focal",
            _EITHER,
            findings_chest.sample_medical_material,
            findings_chest.paint_medical_material,
        ),
    )
)

LARGE_FINDINGS: tuple[str, ...] = tuple(
    label for label in LABELS if any(k.name == label and k.tier == "large" for k in KINDS)
)
"""The tier that a small model learns in minutes, in label order."""


def reshape_heart(thorax: Thorax, findings: tuple[Finding, ...]) -> Thorax:
    """Return the thorax with the heart that its findings give it."""
    for finding in findings:
        if finding.name == "Cardiomegaly":
            scale = finding.amount
            up, back, left = thorax.heart_center
            high, deep, wide = (radius * scale for radius in thorax.heart_radii)
            # an enlarged heart grows to the left and rests on the diaphragm: its middle moves too
            thorax = replace(
                thorax,
                heart_center=(
                    up + 8 * (scale - 1),
                    back - 4 * (scale - 1),
                    left + 26 * (scale - 1),
                ),
                heart_radii=(high, deep, wide),
            )
        if finding.name == "Pericardial effusion":
            thorax = replace(thorax, pericardial_mm=finding.amount)
    return thorax


def sample_finding(
    kind: FindingKind, thorax: Thorax, seed: tuple[int, ...], *, side: str | None = None
) -> Finding:
    """Draw one finding.

    Args:
        kind: Which.
        thorax: In whom.
        seed: Equal seeds give equal findings.
        side: Put it on this side, all else equal, if it has one (for mirrored twins).
    """
    rng = np.random.default_rng(seed)
    drawn = kind.sides[int(rng.integers(len(kind.sides)))]
    return kind.sample(Request(kind.name, thorax, side if drawn and side else drawn, rng))
