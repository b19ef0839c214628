"""Pictures of localised lesions: three planes of the patch, the lesion's outline, the answer."""

import textwrap
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from medvlp.data.lesion_channel import lesion_channel
from medvlp.data.lesion_patch import Volume, frame_around, sample
from medvlp.data.lesion_recipe import LesionRecipe
from medvlp.data.scan import Scan
from medvlp.prediction.lesion_study import LocalisedLesion, SeenLesion
from medvlp.prediction.pictures import Shown, overlay_planes

_SAMPLES = 96  # a patch has at least so many along each side of a picture
_CT_WINDOW_HU = (-160.0, 240.0)  # of the published patches
_NAMES = 3
_LETTERS = 130  # of a line above the planes


def lesion_picture(path: Path, seen: SeenLesion, recipe: LesionRecipe) -> bool:
    """Draw the first patch of the recipe through the lesion's middle.

    A patch of fewer than 96 samples a side is drawn from more: what the scan shows there, not the
    few that a small network sees.

    Args:
        path: PNG.
        seen: The lesion.
        recipe: Whose patch is drawn.

    Returns:
        False, and nothing is drawn, if the lesion could not be looked at.
    """
    scan, lesion, answer = seen.scan, seen.lesion, seen.result.answer
    if scan is None or lesion is None or answer is None:
        return False
    grid = next(iter(recipe.grids.values()))
    box = np.array(lesion.box_mm, np.float64)
    finer = -(-_SAMPLES // min(grid.size))
    spacing, size = np.array(grid.spacing_mm) / finer, [length * finer for length in grid.size]
    frame = frame_around(box[:3], spacing, size, compat=recipe.compat)
    values = sample(_volume(scan), frame) * scan.rescale.slope + scan.rescale.intercept
    window = _CT_WINDOW_HU
    if scan.modality != "CT":
        window = (0.0, float(np.quantile(values, 0.99)))
    # beyond the scan, where the network sees 0, the picture is black
    values[sample(_blank(scan), frame, "nearest") == 0] = -np.inf
    marked = np.zeros(frame.size, np.float32)
    if (mask := scan.companions.get("lesion_mask")) is not None:
        label = lesion.label if recipe.compat is None else 0
        marked = lesion_channel(_volume(mask), frame, box, label=label, compat=recipe.compat).mask
    x, y, z = map(float, spacing)
    shown = Shown(np.clip(values, *window).astype(np.float32).T, "SPL", (z, y, x), window)
    overlay_planes(path, shown, marked.T.copy(), caption(seen.result), region=marked.T > 0)
    return True


def caption(result: LocalisedLesion) -> str:
    """Say the best names, the coarse places that they were looked for in, and what is odd."""
    lines: list[str] = []
    if (answer := result.answer) is not None:
        lines.append(_ranked(answer.names, answer.probabilities))
        if answer.fine:
            lines.append(f"among {_ranked(answer.coarse, answer.coarse_probabilities)}")
    lines += textwrap.wrap(result.remark, _LETTERS)
    return "\n".join(lines)


def _ranked(names: Iterable[str], probabilities: Iterable[float]) -> str:
    best = list(zip(names, probabilities, strict=True))[:_NAMES]
    return ",  ".join(f"{name} {probability:.0%}" for name, probability in best)


def _volume(scan: Scan) -> Volume:
    return Volume.of_array(scan.array, scan.affine[:, [2, 1, 0, 3]])


def _blank(scan: Scan) -> Volume:
    """Make a volume of ones on the voxels of a scan, without its memory."""
    ones = np.broadcast_to(np.uint8(1), scan.array.shape)
    return Volume.of_array(ones, scan.affine[:, [2, 1, 0, 3]])
