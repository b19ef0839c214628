"""A picture of prepared volumes, for the eye: is the patient upright, and are the values HU?"""

from pathlib import Path

import numpy as np

from medvlp.data.manifest import Manifest, Row
from medvlp.data.scan import reorient

_PLANES = (("sagittal", 2), ("coronal", 1), ("axial", 0))
_DISPLAY = "IPL"  # rows downwards to the feet or the back, columns to the patient's left


def write_montage(manifest: Manifest, path: Path, *, num_scans: int = 6) -> None:
    """Draw the three middle planes of scans spread over the data set, letters at the edges.

    Args:
        manifest: Prepared studies; the recipe must name orientation, spacing and window.
        path: PNG.
        num_scans: How many scans, evenly spread; fewer if there are fewer.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    scans = _spread(manifest, num_scans)
    figure = Figure(figsize=(9, 3 * len(scans)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(scans), 3, squeeze=False)
    for row, scan in zip(axes, scans, strict=True):
        _draw(row, scan, manifest)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=80)


def _spread(manifest: Manifest, num_scans: int) -> list[Row]:
    chosen = np.linspace(0, len(manifest) - 1, min(num_scans, len(manifest))).round()
    return [manifest[int(index)]["scans"][0] for index in chosen]


def _draw(row: np.ndarray, scan: Row, manifest: Manifest) -> None:
    recipe = manifest.recipe
    stored = manifest.cache.read(scan["scan_id"]).astype(np.float32)
    volume, order = reorient(stored, recipe["orientation"], _DISPLAY)
    spacing = [recipe["spacing_mm"][axis] for axis in order]
    low, high = recipe["window_hu"]
    for ax, (plane, normal) in zip(row, _PLANES, strict=True):
        image = np.take(volume, volume.shape[normal] // 2, axis=normal)
        down, across = (axis for axis in range(3) if axis != normal)
        aspect = spacing[down] / spacing[across]
        ax.imshow(image, cmap="gray", vmin=low, vmax=high, aspect=aspect, interpolation="nearest")
        ax.set_xticks([])
        ax.set_yticks([])
        ax.set_xlabel(f"{plane}   {_opposite(_DISPLAY[across])} - {_DISPLAY[across]}", fontsize=8)
        ax.set_ylabel(f"{_DISPLAY[down]} - {_opposite(_DISPLAY[down])}", fontsize=8)
    values, raw = scan["range"], scan["raw_spacing_mm"]
    row[0].set_title(
        f"{scan['scan_id']}   values {values[0]:.0f} to {values[1]:.0f}, raw: axes "
        f"{scan['raw_orientation']}, {' x '.join(f'{length:.4g}' for length in raw)} mm, "
        f"{' x '.join(map(str, scan['raw_shape']))} voxels",
        fontsize=8,
        loc="left",
    ).set_in_layout(False)  # longer than its panel


def _opposite(letter: str) -> str:
    return dict(zip("LRPAIS", "RLAPSI", strict=True))[letter]
