"""A picture of prepared volumes, for the eye: is the patient upright, and are the values right?"""

from pathlib import Path

import numpy as np

from medvlp.data.manifest import Manifest, Row
from medvlp.data.scan import orientation_of, reorient

_PLANES = (("sagittal", 2), ("coronal", 1), ("axial", 0))
_DISPLAY = "IPL"  # rows downwards to the feet or the back, columns to the patient's left


def write_montage(manifest: Manifest, path: Path, *, num_scans: int = 6) -> None:
    """Draw the three middle planes of scans spread over the data set, letters at the edges.

    Args:
        manifest: Prepared studies. Grey runs over the recipe's window where HU are stored, else
            from the 0.5 to the 99.5 percentile of each scan.
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
    stored = manifest.cache.read(scan["scan_id"]).astype(np.float32)
    affine = np.array(scan["affine"])[:, [2, 1, 0, 3]]  # of (w, h, d), as files count
    volume, order = reorient(stored, orientation_of(affine), _DISPLAY)
    lengths = np.linalg.norm(affine[:3, :3], axis=0)[::-1]
    spacing = [float(lengths[axis]) for axis in order]
    recipe = manifest.recipe
    low, high = recipe["window_hu"] if recipe.get("kind") == "ct" else scan["range"]
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
