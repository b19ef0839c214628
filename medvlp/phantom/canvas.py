"""What a phantom is painted on: Hounsfield units, organ ids, finding ids, the lung's share."""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, UInt8

from medvlp.phantom.grid import Grid
from medvlp.phantom.shapes import Patch

ORGANS = (
    "background",
    "body",
    "right upper lobe",
    "right middle lobe",
    "right lower lobe",
    "left upper lobe",
    "left lower lobe",
    "trachea and bronchi",
    "heart",
    "aorta",
    "pulmonary artery",
    "esophagus",
    "spine",
    "ribs and sternum",
    "liver",
    "spleen",
    "stomach",
    "kidneys",
    "mediastinum",
)
"""Organ names; the id in the masks is the place in this tuple."""


def organ_id(name: str) -> int:
    """Return the id of an organ in the masks."""
    return ORGANS.index(name)


@dataclass
class Canvas:
    """The volumes of one phantom.

    Attributes:
        grid: The lattice, in the coordinates of the standard body.
        hu: Hounsfield units.
        organs: Ids of `ORGANS`.
        findings: 0, or 1 + the place of the finding in the data set's label order.
        lung: Share of each voxel that is lung tissue; findings of the lung paint through it.
    """

    grid: Grid
    hu: Float[np.ndarray, "d h w"] = field(init=False)
    organs: UInt8[np.ndarray, "d h w"] = field(init=False)
    findings: UInt8[np.ndarray, "d h w"] = field(init=False)
    lung: Float[np.ndarray, "d h w"] = field(init=False)

    def __post_init__(self) -> None:
        shape = self.grid.shape
        self.hu = np.full(shape, -1000, dtype=np.float32)
        self.organs = np.zeros(shape, dtype=np.uint8)
        self.findings = np.zeros(shape, dtype=np.uint8)
        self.lung = np.zeros(shape, dtype=np.float32)

    def tissue(self, patch: Patch, hu: float, organ: str = "") -> None:
        """Paint tissue that takes the place of whatever is there, lung included.

        Args:
            patch: Where.
            hu: Its Hounsfield units.
            organ: Its name in `ORGANS`; empty leaves the organ ids as they are.
        """
        self._blend(patch, hu)
        self.lung[patch.box] *= 1 - patch.alpha
        if organ:
            self.organs[patch.box][patch.alpha > 0.5] = organ_id(organ)

    def lesion(
        self,
        patch: Patch,
        hu: float,
        finding: int,
        *,
        in_lung: bool = True,
        threshold: float = 0.4,
    ) -> None:
        """Paint a finding and mark it in the finding mask.

        Args:
            patch: Where.
            hu: Its Hounsfield units.
            finding: Its id in the mask.
            in_lung: Paint through the lung only, so that it never covers heart, wall or belly.
            threshold: Share of a voxel from which the mask is set.
        """
        if in_lung:
            patch = Patch(patch.box, patch.alpha * self.lung[patch.box])
        self._blend(patch, hu)
        self.findings[patch.box][patch.alpha > threshold] = finding

    def _blend(self, patch: Patch, hu: float) -> None:
        view = self.hu[patch.box]
        difference = np.float32(hu) - view
        difference *= patch.alpha
        view += difference
