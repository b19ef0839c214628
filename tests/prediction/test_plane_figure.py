"""A figure that is drawn again shows the same as one that is new."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medvlp.prediction.pictures import Shown, overlay_planes
from medvlp.prediction.plane_figure import plane_figure

SHAPE = (6, 10, 8)


def draw(path: Path, seed: int, title: str, **more: object) -> np.ndarray:
    draws = np.random.default_rng(seed)
    values = draws.random(SHAPE, np.float32) ** 4
    window = (0.2, 0.7) if more.get("window") else None
    shown = Shown(draws.random(SHAPE, np.float32) * seed, "SPL", (3.0, 1.0, 1.0), window)
    overlay_planes(path, shown, values, title, region=values > 0.5 if more.get("region") else None)
    return np.asarray(Image.open(path))


@pytest.mark.parametrize("title", ["", "one line", "one line\nand another"])
@pytest.mark.parametrize("more", [{}, {"region": True}, {"window": True}])
def test_nothing_of_the_last_picture_is_left(
    title: str, more: dict[str, bool], tmp_path: Path
) -> None:
    plane_figure.cache_clear()
    alone = draw(tmp_path / "alone.png", 1, title, **more)
    plane_figure.cache_clear()
    other = draw(tmp_path / "other.png", 2, title.replace("o", "i"), region=True, window=True)
    again = draw(tmp_path / "again.png", 1, title, **more)
    assert plane_figure.cache_info().misses == 1
    assert alone.shape == (429, 1155, 3)
    np.testing.assert_array_equal(again, alone)
    assert (other != alone).any()


def test_planes_of_another_shape_and_longer_titles_are_laid_out_anew(tmp_path: Path) -> None:
    plane_figure.cache_clear()
    one, two = (draw(tmp_path / f"{n}.png", 1, "\n".join("x" * n)) for n in (1, 2))
    top = [int((picture[..., 0] < 128).any(axis=1).argmax()) for picture in (one, two)]
    assert plane_figure.cache_info().misses == 2 and top[0] == pytest.approx(top[1], abs=2)
    assert (one[60:] != two[60:]).any()  # the planes have moved
