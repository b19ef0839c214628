"""A picture of many images of a set, to look at before training."""

from pathlib import Path

import numpy as np
from jaxtyping import Int
from numpy import ndarray

from medvlp.data.image_dataset import decode
from medvlp.data.image_sets import ImageSet


def write_image_montage(
    images: ImageSet, indices: Int[ndarray, " s"], path: Path, *, num_images: int
) -> None:
    """Draw images spread over a set, with their mode, size and id.

    Args:
        images: Opened.
        indices: Which images may be shown.
        path: PNG.
        num_images: How many, evenly spread; fewer if there are fewer.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    places = np.linspace(0, len(indices) - 1, min(num_images, len(indices))).round().astype(int)
    columns = min(6, len(places))
    rows = -(-len(places) // columns)
    figure = Figure(figsize=(2 * columns, 2.3 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax in axes:
        ax.set_axis_off()
    for ax, place in zip(axes, places, strict=False):
        item = images[int(indices[place])]
        image = decode(item)
        # grey images of any depth from their own darkest to their brightest pixel
        grey = image.mode in ("L", "F") or image.mode.startswith("I")
        ax.imshow(np.asarray(image if grey else image.convert("RGB")), cmap="gray")
        label = item.image_id if len(item.image_id) < 28 else f"...{item.image_id[-25:]}"
        ax.set_title(f"{label}\n{image.mode} {image.width} x {image.height}", fontsize=6)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90)
