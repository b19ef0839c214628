"""Random changes of a lesion's patch while training: turned, scaled, moved."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from medvlp.data.lesion_geometry import rotation_matrix


class PatchDraw(NamedTuple):
    """One draw.

    Attributes:
        shift_mm: Added to the centre, x y z.
        magnification: Divides the spacing, x y z.
        axes: Columns are the directions of the patch's axes; None does not turn it.
    """

    shift_mm: Float[np.ndarray, "3"]
    magnification: Float[np.ndarray, "3"]
    axes: Float[np.ndarray, "3 3"] | None


class LesionAugmentation:
    """Draws as HCL-AL publishes them (Gao et al., IEEE TMI 2025; defaults are its values).

    Args:
        rotation_prob: How often the patch is turned, by an angle up to `max_angle_deg` around an
            axis of any direction.
        max_angle_deg: Largest angle.
        scale_prob: How often it is scaled.
        scale_range: Of the magnification; the spacing is divided by it.
        isotropic: One magnification for all axes.
        max_shift_mm: Largest shift of the centre along each axis; always drawn.
    """

    def __init__(
        self,
        rotation_prob: float = 0.5,
        max_angle_deg: float = 10.0,
        *,
        scale_prob: float = 0.5,
        scale_range: Sequence[float] = (0.8, 1.2),
        isotropic: bool = True,
        max_shift_mm: float = 3.0,
    ) -> None:
        if not (0 <= rotation_prob <= 1 and 0 <= scale_prob <= 1):
            raise ValueError(
                f"rotation_prob is {rotation_prob} and scale_prob {scale_prob}, expected 0 to 1"
            )
        if len(scale_range) != 2 or not 0 < scale_range[0] <= scale_range[1]:
            raise ValueError(f"scale_range is {list(scale_range)}, expected two factors above 0")
        if max_angle_deg < 0 or max_shift_mm < 0:
            raise ValueError(
                f"max_angle_deg is {max_angle_deg} and max_shift_mm {max_shift_mm}, expected 0 "
                "or more"
            )
        self.rotation_prob, self.max_angle_deg = rotation_prob, max_angle_deg
        self.scale_prob, self.scale_range = scale_prob, (scale_range[0], scale_range[1])
        self.isotropic, self.max_shift_mm = isotropic, max_shift_mm

    def draw(self, generator: np.random.Generator) -> PatchDraw:
        """Draw; every call takes the same number of values from the generator."""
        turned, scaled = generator.random(2) < (self.rotation_prob, self.scale_prob)
        axis = generator.standard_normal(3)  # its direction is uniform on the sphere
        angle = np.deg2rad(generator.uniform(0.0, self.max_angle_deg))
        factors = generator.uniform(*self.scale_range, size=3)
        shift = generator.uniform(-self.max_shift_mm, self.max_shift_mm, size=3)
        if self.isotropic:
            factors = np.full(3, factors[0])
        return PatchDraw(
            shift,
            factors if scaled else np.ones(3),
            rotation_matrix(axis, float(angle)) if turned else None,
        )


STILL = PatchDraw(np.zeros(3), np.ones(3), None)
"""No change."""
