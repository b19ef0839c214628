"""Three planes side by side: a figure that is laid out once and drawn again for every picture."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

HIDDEN_BELOW = 0.25
_ALPHA = 0.3
_DPI = 110
_PNG_LEVEL = 1  # 14 ms for a picture, and 36 ms with level 6 for a tenth fewer bytes


class PlaneLook(NamedTuple):
    """What the layout of a plane depends on.

    Attributes:
        shape: Rows and columns.
        aspect: Height of a pixel by its width.
        below: Written below the plane.
        beside: Written beside it.
    """

    shape: tuple[int, int]
    aspect: float
    below: str
    beside: str


class Plane(NamedTuple):
    """What is drawn in a plane.

    Attributes:
        grey: Lies below.
        scaled: The map in [0, 1] that lies over it; what is below 0.25 is hidden.
        cross: Row and column that are marked.
        marked: Whose outline is drawn.
    """

    grey: Float[np.ndarray, "h w"]
    scaled: Float[np.ndarray, "h w"]
    cross: tuple[int, int]
    marked: Bool[np.ndarray, "h w"] | None = None


class PlaneFigure:
    """A figure of planes whose artists get new data; for one thread.

    Args:
        looks: Of the planes, from left to right.
        num_lines: Of the title.
    """

    def __init__(self, looks: Sequence[PlaneLook], num_lines: int) -> None:
        self._figure = agg_figure(figsize=(10.5, 3.9), layout="constrained", dpi=_DPI)
        self._title = self._figure.suptitle("\n".join(["x"] * num_lines), fontsize=10)
        axes = self._figure.subplots(1, len(looks))
        self._artists = [_artists(ax, look) for ax, look in zip(axes, looks, strict=True)]
        self._figure.draw_without_rendering()
        self._figure.set_layout_engine("none")

    def save(
        self, path: Path, planes: Sequence[Plane], title: str, window: tuple[float, float] | None
    ) -> None:
        """Draw planes.

        Args:
            path: PNG.
            planes: As many as the figure has, of their shapes.
            title: Of as many lines as the figure's.
            window: What is black and what is white; None takes the ends of each plane.
        """
        from PIL import Image

        self._title.set_text(title)
        for artists, plane in zip(self._artists, planes, strict=True):
            _fill(artists, plane, window)
        self._figure.canvas.draw()
        image = Image.fromarray(np.asarray(self._figure.canvas.buffer_rgba())).convert("RGB")
        image.save(path, format="png", compress_level=_PNG_LEVEL, dpi=(_DPI, _DPI))


@lru_cache(maxsize=4)
def plane_figure(looks: tuple[PlaneLook, ...], num_lines: int) -> PlaneFigure:
    """Give the figure of planes that look alike: the one of the last time, if there is one."""
    return PlaneFigure(looks, num_lines)


def agg_figure(**options: Any) -> Any:
    """Make a figure that draws pixels, without a window and without pyplot."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(**options)
    FigureCanvasAgg(figure)
    return figure


def lay_over(ax: Any, scaled: Float[np.ndarray, "h w"], **options: Any) -> Any:
    """Draw a map in [0, 1] over what is there."""
    return ax.imshow(hidden(scaled), cmap="jet", alpha=_ALPHA, vmin=0, vmax=1, **options)


def hidden(scaled: Float[np.ndarray, "h w"]) -> Any:
    """Mask what is not shown of a map."""
    return np.ma.masked_less(scaled, HIDDEN_BELOW)


class _Artists(NamedTuple):
    ax: Any
    grey: Any
    over: Any
    cross: Any


def _artists(ax: Any, look: PlaneLook) -> _Artists:
    blank = np.zeros(look.shape, np.float32)
    grey = ax.imshow(blank, cmap="gray", aspect=look.aspect)
    over = lay_over(ax, blank, aspect=look.aspect)
    (cross,) = ax.plot(0, 0, "+", color="white", markersize=12)
    ax.set_xticks([])
    ax.set_yticks([])
    ax.set_xlabel(look.below, fontsize=8)
    ax.set_ylabel(look.beside, fontsize=8)
    ax.set_autoscale_on(False)
    return _Artists(ax, grey, over, cross)


def _fill(artists: _Artists, plane: Plane, window: tuple[float, float] | None) -> None:
    """Give the artists their data; the outline is made anew."""
    artists.grey.set_data(plane.grey)
    if window is None:
        artists.grey.autoscale()
    else:
        artists.grey.set_clim(*window)
    artists.over.set_data(hidden(plane.scaled))
    row, column = plane.cross
    artists.cross.set_data([column], [row])
    for outline in list(artists.ax.collections):  # of the last picture
        outline.remove()
    if plane.marked is not None and plane.marked.any():
        artists.ax.contour(plane.marked, [0.5], colors="white", linewidths=0.7)
