"""Stained tissue: haematoxylin in the nuclei, eosin in the rest, arranged as the table says.

Colours follow from the amounts of the stains by the law of Beer and Lambert. The table
(`image_tissues.json`) names for each finding the arrangement (`structure`) and its size, how much
eosin and how much haematoxylin (`haze`) the ground takes, how densely nuclei lie (`spacing`), how
large they are (`radius`, in spacings), which share of their places they take, how long they are
(`stretch`), and more where a structure needs it.
"""

import json
from collections.abc import Callable
from functools import lru_cache
from importlib import resources
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from medvlp.phantom.image_canvas import Canvas, Map, step


class Tissue(NamedTuple):
    """How a tissue looks, see the text of this module."""

    structure: str
    eosin: float
    spacing: float
    radius: float
    size: float = 0.5
    share: float = 0.95
    stretch: float = 1.0
    haze: float = 0.0
    lumen: float = 0.3
    wave: float = 0.5
    outside: float = 0.15
    blood: float = 0.0
    pigment: float = 0.0


class _Layout(NamedTuple):
    """Where things are: `nuclei` is their probability, `eosin` and `empty` are amounts."""

    nuclei: Map | float
    eosin: Map | float
    empty: Map | float = 0.0
    haze: Map | float = 0.0
    middle: Map | None = None


@lru_cache(maxsize=1)
def tissues() -> dict[str, Tissue]:
    """Read the table."""
    text = resources.files("medvlp.phantom").joinpath("image_tissues.json").read_text("utf-8")
    return {name: Tissue(**row) for name, row in json.loads(text).items()}


# optical density of haematoxylin, eosin and pigment or blood in red, green and blue
_HAEMATOXYLIN = np.array((0.95, 1.25, 0.55), np.float32)
_EOSIN = np.array((0.06, 0.75, 0.4), np.float32)
_PIGMENT = np.array((0.7, 1.1, 1.5), np.float32)
_BLOOD = np.array((0.25, 1.5, 1.5), np.float32)


def paint_pathology(finding: str, canvas: Canvas) -> Float[ndarray, "h w 3"]:
    """Paint a field of stained tissue."""
    tissue, turn = tissues()[finding], canvas.between(0, np.pi)
    tissue = tissue._replace(
        size=tissue.size * canvas.between(0.9, 1.1),
        spacing=tissue.spacing * canvas.between(0.92, 1.08),
    )
    layout = _STRUCTURES[tissue.structure](canvas, tissue, turn)
    distance, value = canvas.cells(tissue.spacing, stretch=tissue.stretch, turn=turn)
    edge = 2.5 * min(canvas.size * tissue.spacing / 12, 4.0)
    wanted = value < tissue.share * layout.nuclei
    nuclei = step(np.float32(tissue.radius) * (0.75 + 0.4 * value) - distance, edge) * wanted
    present = 1 - layout.empty
    haematoxylin = (nuclei * (0.95 + 0.25 * value) + tissue.haze + layout.haze) * present
    eosin = (
        tissue.eosin * layout.eosin * present * (1 + 0.12 * canvas.cloud(0.3)) * (1 - nuclei / 2)
    )
    density = _stained(haematoxylin, _HAEMATOXYLIN, canvas) + _stained(eosin, _EOSIN, canvas)
    for share, colour, patch in ((tissue.blood, _BLOOD, 0.4), (tissue.pigment, _PIGMENT, 0.12)):
        if share:
            where = step(canvas.cloud(patch) - 0.8, 3) if layout.middle is None else layout.middle
            density += (share * where)[..., None] * colour
    light = canvas.generator.uniform(0.9, 1.0, 3).astype(np.float32)  # of the lamp
    return np.exp(-density) * light + canvas.grain(0.015)[..., None]


def _stained(amount: Map, colour: ndarray, canvas: Canvas) -> Float[ndarray, "h w 3"]:
    batch = canvas.generator.uniform(0.85, 1.15, 3).astype(np.float32)  # staining differs by day
    return amount[..., None].astype(np.float32) * (colour * batch)


def _solid(canvas: Canvas, tissue: Tissue, turn: float) -> _Layout:
    return _Layout(1.0, 1.0)


def _glands(canvas: Canvas, tissue: Tissue, turn: float) -> _Layout:
    distance, value = canvas.cells(tissue.size, stretch=1.25, turn=turn)
    distance = distance + 0.03 * canvas.cloud(0.2)
    lumen = step(tissue.lumen * (0.8 + 0.4 * value) - distance, 14)
    wall = step(0.5 - distance, 14) * (1 - lumen)
    return _Layout(np.maximum(wall, tissue.outside), 0.7 + 0.5 * (1 - wall), empty=0.95 * lumen)


def _ducts(canvas: Canvas, tissue: Tissue, turn: float) -> _Layout:
    # round nests with several punched-out spaces
    distance, _ = canvas.cells(tissue.size)
    hole, _ = canvas.cells(tissue.size / 3)
    inside = step(0.46 - distance, 14)
    lumen = step(tissue.lumen - hole, 8) * step(0.4 - distance, 12)
    return _Layout(np.maximum(inside, 0.08), 1.25 - 0.5 * inside, empty=0.95 * lumen)


def _sheets(canvas: Canvas, tissue: Tissue, turn: float) -> _Layout:
    # thin walls between large air spaces
    wall = step(0.45 - np.abs(canvas.cloud(tissue.size / 2)), 5)
    return _Layout(wall, wall, empty=0.97 * (1 - wall))


def _fat(canvas: Canvas, tissue: Tissue, turn: float) -> _Layout:
    distance, _ = canvas.cells(tissue.size)
    drop = step(0.52 * (tissue.lumen + 0.6) / 0.9 - distance, 12)
    return _Layout(1 - drop, 1.0, empty=0.96 * drop)


def _foam(canvas: Canvas, tissue: Tissue, turn: float) -> _Layout:
    distance, _ = canvas.cells(tissue.size)
    foam = step(0.48 - distance, 8) * (0.7 + 0.2 * canvas.cloud(0.05))
    return _Layout(1.0, 1.0, empty=np.clip(0.75 * foam, 0, 1))


def _nests(canvas: Canvas, tissue: Tissue, turn: float) -> _Layout:
    distance, value = canvas.cells(tissue.size, stretch=1.2, turn=turn)
    nest = step(0.42 - distance + 0.05 * canvas.cloud(0.25), 10) * (value < 0.85)
    return _Layout(np.maximum(nest, tissue.outside), 1.2 - 0.6 * nest)


def _pearls(canvas: Canvas, tissue: Tissue, turn: float) -> _Layout:
    distance, value = canvas.cells(tissue.size)
    pearl = step(0.34 - distance, 10) * (value < 0.75)
    rings = 0.5 + 0.5 * np.sin(distance * np.float32(70 * tissue.size))
    return _Layout(1 - 0.95 * pearl, 0.7 + pearl * (0.5 + 0.8 * rings))


def _clumps(canvas: Canvas, tissue: Tissue, turn: float) -> _Layout:
    clump = step(canvas.cloud(tissue.size), 2)
    return _Layout(0.15 + 0.85 * clump, 0.35 + 0.9 * clump, empty=0.5 * (1 - clump))


def _fibres(canvas: Canvas, tissue: Tissue, turn: float) -> _Layout:
    bands = _bands(canvas, tissue, turn)
    return _Layout(1.0, 0.6 + 0.7 * bands, empty=0.8 * step(0.25 - bands, 4))


def _bands(canvas: Canvas, tissue: Tissue, turn: float) -> Map:
    across = canvas.plain_y * np.cos(turn) + canvas.plain_x * np.sin(turn)
    phase = across * np.float32(2 * np.pi / tissue.size) + tissue.wave * 2.5 * canvas.cloud(0.5)
    return (0.5 + 0.5 * np.sin(phase)).astype(np.float32)


def _bundle(canvas: Canvas, tissue: Tissue, turn: float) -> _Layout:
    inside = canvas.blob(0, 0, (tissue.size, tissue.size * 1.2), turn=turn, edge=10)
    bands = _bands(canvas, tissue._replace(size=0.2, wave=0.8), turn)
    return _Layout(
        0.9 * inside + 0.1, inside * (0.4 + bands) + 1.6 * (1 - inside), empty=0.2 * inside * bands
    )


def _trabeculae(canvas: Canvas, tissue: Tissue, turn: float) -> _Layout:
    bone = step(canvas.cloud(tissue.size) + 0.1, 4)
    return _Layout(1 - 0.8 * bone, 0.35 + bone, empty=0.35 * (1 - bone))


def _ring(canvas: Canvas, tissue: Tissue, turn: float) -> _Layout:
    y, x = canvas.between(-0.2, 0.2), canvas.between(-0.2, 0.2)
    distance = canvas.radius(y, x, (tissue.size, tissue.size * 1.15), turn=turn)
    wall, inner = step(1 - distance, 8), step(0.6 - distance, 8)
    layers = 0.5 + 0.5 * np.sin(distance * 40)
    return _Layout(
        np.maximum(wall - inner, 0.15), 0.6 + wall * layers, empty=0.8 * inner, middle=inner
    )


def _layers(canvas: Canvas, tissue: Tissue, turn: float) -> _Layout:
    depth = canvas.y + 0.08 * np.sin(canvas.x * 9 + canvas.between(0, 6))
    skin = step(depth + 0.6, 12)
    cellular = skin * step(tissue.size - 0.4 - depth, 10)
    return _Layout(np.maximum(cellular, 0.1), 1.0, empty=0.97 * (1 - skin), haze=0.15 * cellular)


def _lacunae(canvas: Canvas, tissue: Tissue, turn: float) -> _Layout:
    distance, _ = canvas.cells(tissue.size)
    halo = step(0.3 - distance, 10)
    return _Layout(1.0, 1.0, empty=0.7 * halo)


_STRUCTURES: dict[str, Callable[[Canvas, Tissue, float], _Layout]] = {
    "solid": _solid,
    "glands": _glands,
    "ducts": _ducts,
    "sheets": _sheets,
    "fat": _fat,
    "foam": _foam,
    "nests": _nests,
    "pearls": _pearls,
    "clumps": _clumps,
    "fibres": _fibres,
    "bundle": _bundle,
    "trabeculae": _trabeculae,
    "ring": _ring,
    "layers": _layers,
    "lacunae": _lacunae,
}
