"""A picture of prepared volumes, for the eye: is the patient upright, and are the values right?"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Float64, Shaped

from medvlp.data.manifest import Manifest, Row
from medvlp.data.scan import Scan, orientation_of, reorient, resampled_affine
from medvlp.data.unit_range import unpack_unit

_PLANES = (("sagittal", 2), ("coronal", 1), ("axial", 0))
_DISPLAY = "IPL"  # rows downwards to the feet or the back, columns to the patient's left
_COLOUR_MAPS = ("tab20", "tab20b", "tab20c")
_LEGEND_COLUMNS = 6
_NAMED = 8  # anatomies that a title names
_ROW_INCHES = 3.4
_LEGEND_INCHES = 0.2  # a line of it


def montage_file(folder: Path) -> Path:
    """Say where the picture of a prepared data set lies."""
    return folder / "quality.png"


def write_montage(manifest: Manifest, path: Path, *, num_scans: int = 6) -> None:
    """Draw three planes of scans spread over the data set, letters at the edges.

    The planes go through the middle, or where there is a mask, through the most of that; its
    outlines are drawn, with a legend of the anatomies where the recipe names them, and titles say
    which of them a scan lacks.

    Args:
        manifest: Prepared studies. Grey runs over the recipe's window where HU are stored, else
            from the 0.5 to the 99.5 percentile of each scan.
        path: PNG.
        num_scans: How many scans, evenly spread; fewer if there are fewer, and no picture of none.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    scans = _spread(manifest, num_scans)
    if not scans:
        return
    names = _anatomies(manifest.recipe)
    legend = _LEGEND_INCHES * (1 + -(-len(names) // _LEGEND_COLUMNS)) if names else 0.0
    heights = [_ROW_INCHES] * len(scans) + [legend] * bool(names)
    figure = Figure(figsize=(9, sum(heights)), layout="constrained")
    FigureCanvasAgg(figure)
    parts = figure.subfigures(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
    for part, scan in zip(parts, scans, strict=False):
        part.suptitle(_title(scan), x=0.01, ha="left", fontsize=8)
        _draw(part.subplots(1, 3), scan, manifest)
    if names:
        _draw_legend(parts[-1], names)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=80)


def _spread(manifest: Manifest, num_scans: int) -> list[Row]:
    """Choose studies evenly, and of each another of its scans: sequences, reconstructions."""
    chosen = np.linspace(0, len(manifest) - 1, min(num_scans, len(manifest))).round()
    studies = [manifest[int(index)]["scans"] for index in chosen]
    return [scans[number % len(scans)] for number, scans in enumerate(studies)]


def _draw(row: np.ndarray, scan: Row, manifest: Manifest) -> None:
    stored = manifest.cache.read(scan["scan_id"])
    volume, affine = _upright(_first_channel(unpack_unit(stored), scan), scan)
    masks = [_on_grid(*mask, volume.shape, affine) for mask in _masks(manifest, scan)]
    low, high = _grey(manifest.recipe, scan, volume)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    for ax, (plane, normal) in zip(row, _PLANES, strict=True):
        place = _place(masks, normal, volume.shape[normal])
        down, across = (axis for axis in range(3) if axis != normal)
        aspect = float(spacing[down] / spacing[across])
        shown: dict[str, Any] = {"aspect": aspect, "interpolation": "nearest"}
        ax.imshow(np.take(volume, place, axis=normal), cmap="gray", vmin=low, vmax=high, **shown)
        for mask in masks:
            ax.imshow(_outline(np.take(mask, place, axis=normal)), **shown)
        ax.set_xticks([])
        ax.set_yticks([])
        ax.set_xlabel(f"{plane}   {_opposite(_DISPLAY[across])} - {_DISPLAY[across]}", fontsize=8)
        ax.set_ylabel(f"{_DISPLAY[down]} - {_opposite(_DISPLAY[down])}", fontsize=8)


def _title(scan: Row) -> str:
    values, raw = scan["range"], scan["raw_range"]
    unit = " HU" if scan["modality"] == "CT" else ""
    letters = orientation_of(_file_affine(scan))
    spacing = np.linalg.norm(_file_affine(scan)[:3, :3], axis=0)[::-1]
    voxels: Mapping[str, int] = scan.get("anatomy_voxels", {})
    absent = [name for name, count in voxels.items() if not count]
    more = [f"{len(absent) - _NAMED} more"] if len(absent) > _NAMED else []
    lack = f"   without {', '.join(absent[:_NAMED] + more)}" if absent else ""
    return (
        f"{scan['scan_id']}   {scan['modality']}{lack}\n"
        f"stored: {values[0]:.4g} to {values[1]:.4g}, "
        f"{letters}, {_by(spacing)} mm, {_by(scan['shape'])} voxels\n"
        f"raw: {raw[0]:.4g} to {raw[1]:.4g}{unit}, {scan['raw_orientation']}, "
        f"{_by(scan['raw_spacing_mm'])} mm, {_by(scan['raw_shape'])} voxels"
    )


def _by(numbers: Any) -> str:
    return " x ".join(f"{number:.4g}" for number in numbers)


def _first_channel(volume: Shaped[np.ndarray, "n h w"], scan: Row) -> Shaped[np.ndarray, "d h w"]:
    return volume[: len(volume) // scan.get("num_channels", 1)]


def _file_affine(scan: Row) -> Float64[np.ndarray, "4 4"]:
    """Give the stored grid from the index (w, h, d), as files count, to RAS+ millimetres."""
    return np.array(scan["affine"], np.float64)[:, [2, 1, 0, 3]]


def _upright(
    volume: Shaped[np.ndarray, "d h w"], scan: Row
) -> tuple[Shaped[np.ndarray, "D H W"], Float64[np.ndarray, "4 4"]]:
    """Turn a volume for display; its affine is from the index (d, h, w)."""
    affine = _file_affine(scan)
    letters = orientation_of(affine)
    turned, _ = reorient(volume, letters, _DISPLAY)
    deep, high, wide = (float(mm) for mm in np.linalg.norm(affine[:3, :3], axis=0)[::-1])
    as_read = Scan(volume, affine, (deep, high, wide), letters)
    return turned, resampled_affine(as_read, _DISPLAY, turned.shape)


def _masks(manifest: Manifest, scan: Row) -> list[tuple[np.ndarray, np.ndarray]]:
    """Read the masks among the fields, each with its affine from the index (d, h, w)."""
    grids = scan.get("grids", {})
    masks = []
    for field in manifest.fields:
        if field.endswith("mask"):
            affine = grids.get(field, {}).get("affine", scan["affine"])
            masks.append((manifest.cache.read(scan["scan_id"], field=field), np.array(affine)))
    return masks


def _on_grid(
    mask: Shaped[np.ndarray, "d h w"],
    mask_affine: Float[np.ndarray, "4 4"],
    shape: tuple[int, ...],
    affine: Float64[np.ndarray, "4 4"],
) -> Shaped[np.ndarray, "D H W"]:
    """Take for each voxel of the picture's grid the mask's voxel there; 0 where there is none."""
    index = np.linalg.inv(mask_affine) @ affine
    result = np.zeros(shape, mask.dtype)
    rows, columns = np.mgrid[: shape[1], : shape[2]]
    for depth in range(shape[0]):
        points = np.stack([np.full_like(rows, depth), rows, columns, np.ones_like(rows)])
        d, h, w = np.floor(np.tensordot(index[:3], points, axes=1) + 0.5).astype(int)
        inside = np.ones(rows.shape, bool)
        for place, length in zip((d, h, w), mask.shape, strict=True):
            inside &= (place >= 0) & (place < length)
        result[depth][inside] = mask[d[inside], h[inside], w[inside]]
    return result


def _grey(recipe: Row, scan: Row, volume: Shaped[np.ndarray, "d h w"]) -> tuple[float, float]:
    if recipe.get("kind") == "ct":
        low, high = recipe["window_hu"]
        return low, high
    low, high = np.percentile(volume[::2, ::2, ::2], (0.5, 99.5))
    return float(low), float(high)


def _place(masks: list[np.ndarray], normal: int, length: int) -> int:
    others = tuple(axis for axis in range(3) if axis != normal)
    for mask in masks:
        counts = (mask > 0).sum(axis=others)
        if counts.any():
            return int(counts.argmax())
    return length // 2


def _anatomies(recipe: Row) -> list[str]:
    """Name the labels 1, 2, ... of the mask that a recipe makes."""
    return [name for name, _ in recipe.get("mask", {}).get("anatomies", [])]


def _draw_legend(part: Any, names: Sequence[str]) -> None:
    from matplotlib.patches import Patch

    colours = _colours()
    handles = [
        Patch(color=colours[number % len(colours)], label=name)
        for number, name in enumerate(names, start=1)
    ]
    part.legend(handles=handles, ncols=_LEGEND_COLUMNS, loc="center", fontsize=7, frameon=False)


def _colours() -> Float64[np.ndarray, "k 4"]:
    """Give the colour of each label; they repeat after the last."""
    from matplotlib import colormaps

    return np.concatenate([colormaps[name](np.arange(20)) for name in _COLOUR_MAPS])


def _outline(labels: Shaped[np.ndarray, "h w"]) -> Float[np.ndarray, "h w 4"]:
    """Colour the voxels of each label that border on another."""
    padded = np.pad(labels, 1, mode="edge")
    neighbours = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
    border = np.any([labels != other for other in neighbours], axis=0) & (labels > 0)
    colours = _colours()
    picture = np.zeros((*labels.shape, 4))
    picture[border] = colours[labels[border].astype(int) % len(colours)]
    return picture


def _opposite(letter: str) -> str:
    return dict(zip("LRPAIS", "RLAPSI", strict=True))[letter]
