"""What a head is painted on: one volume per contrast, ids of organs and of findings."""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, UInt8

from medvlp.phantom.grid import Grid, Point
from medvlp.phantom.head_tissues import intensity
from medvlp.phantom.shapes import Patch, ellipsoid, ramp

ORGANS = (
    "background",
    "scalp and face",
    "skull",
    "cerebrospinal fluid",
    "grey matter",
    "white matter",
    "deep grey matter",
    "ventricles",
    "cerebellum",
    "brain stem",
    "eyes",
)
"""Organ names; the id in the masks is the place in this tuple."""

FINDINGS = (
    "stroke",
    "glioma",
    "meningioma",
    "metastasis",
    "cyst",
    "intraparenchymal",
    "intraventricular",
    "subarachnoid",
    "subdural",
    "epidural",
    "fracture",
    "edema",
)
"""Kinds of findings; the id in the masks is 1 + the place in this tuple."""


def finding_id(kind: str) -> int:
    """Return the id of a kind of finding in the masks."""
    return FINDINGS.index(kind) + 1


@dataclass
class HeadCanvas:
    """The volumes of one head.

    Attributes:
        grid: The lattice.
        contrasts: What is painted, see `head_tissues.CONTRASTS`.
        values: One volume per contrast.
        organs: Ids of `ORGANS`.
        findings: Ids of `FINDINGS`.
        inside: Millimetres below the inner surface of the skull; negative outside.
        brain: Share of each voxel that is brain tissue, ventricles included.
        ventricles: Share that is ventricle.
    """

    grid: Grid
    contrasts: tuple[str, ...]
    values: Float[np.ndarray, "c d h w"] = field(init=False)
    organs: UInt8[np.ndarray, "d h w"] = field(init=False)
    findings: UInt8[np.ndarray, "d h w"] = field(init=False)
    inside: Float[np.ndarray, "d h w"] = field(init=False)
    brain: Float[np.ndarray, "d h w"] = field(init=False)
    ventricles: Float[np.ndarray, "d h w"] = field(init=False)

    def __post_init__(self) -> None:
        shape = self.grid.shape
        air = np.asarray([intensity("air", name) for name in self.contrasts], dtype=np.float32)
        self.values = np.broadcast_to(air[:, None, None, None], (len(air), *shape)).copy()
        self.organs = np.zeros(shape, dtype=np.uint8)
        self.findings = np.zeros(shape, dtype=np.uint8)
        self.inside = np.full(shape, -1e3, dtype=np.float32)
        self.brain = np.zeros(shape, dtype=np.float32)
        self.ventricles = np.zeros(shape, dtype=np.float32)

    @property
    def whole(self) -> tuple[slice, slice, slice]:
        """Return the box that is all of the lattice."""
        depth, height, width = self.grid.shape
        return slice(0, depth), slice(0, height), slice(0, width)

    def tissue(self, patch: Patch, tissue: str, organ: str = "") -> None:
        """Paint tissue over whatever is there.

        Args:
            patch: Where.
            tissue: A row of `head_tissues`.
            organ: Its name in `ORGANS`; empty leaves the organ ids as they are.
        """
        for volume, contrast in zip(self.values, self.contrasts, strict=True):
            view = volume[patch.box]
            difference = np.float32(intensity(tissue, contrast)) - view
            difference *= patch.alpha
            view += difference
        if organ:
            self.organs[patch.box][patch.alpha > 0.5] = ORGANS.index(organ)

    def finding(self, patch: Patch, tissue: str, kind: str, *, threshold: float = 0.4) -> None:
        """Paint a finding and mark it.

        Args:
            patch: Where.
            tissue: What it is made of.
            kind: Of `FINDINGS`.
            threshold: Share of a voxel from which the mask is set.
        """
        self.tissue(patch, tissue)
        marked = patch.alpha > threshold
        if kind == "edema":  # around a lesion, never over it
            marked &= self.findings[patch.box] == 0
        self.findings[patch.box][marked] = finding_id(kind)

    def clipped(self, patch: Patch, share: Float[np.ndarray, "d h w"]) -> Patch:
        """Return the part of a patch that lies in `share`, a volume of the whole lattice."""
        return Patch(patch.box, patch.alpha * share[patch.box])

    def within_skull(self, patch: Patch) -> Patch:
        """Return the part of a patch that lies inside the skull."""
        inside = ramp(self.inside[patch.box].copy(), self.grid.edge_mm)
        return Patch(patch.box, patch.alpha * inside)

    def ball(self, center: Float[np.ndarray, "3"] | Point, radius: float) -> Patch:
        """Fill a ball."""
        z, y, x = (float(value) for value in center)
        return ellipsoid(self.grid, (z, y, x), (radius, radius, radius))
