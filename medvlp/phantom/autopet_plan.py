"""Who is in an AutoPET twin: cases with their lesions, and the hard ones among them."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from medvlp.data.autopet import split_of
from medvlp.data.lesion_places import PlaceVocabulary
from medvlp.phantom.grid import Point
from medvlp.phantom.twin_parameters import TwinParameters
from medvlp.phantom.whole_body import BOTTOM_MM, WholeBody, sample_body

TEST_FRACTION = 0.2
"""Of the patients, by the hash that `medvlp.data.autopet` divides them with by default."""

NEGATIVE_SHARE = 0.2
"""Of the cases that have no lesion; half of the real ones have none."""

TWO_PLACES_SHARE = 0.25
"""Of the lesions that lie between two places, if their coarse place has another one."""

_HARD_CASES = (
    "no lesion",
    "one voxel",
    "at the border",
    "flipped mask",
    "corrupt SUV",
    "misspelt place",
    "mirrored left",
    "mirrored right",
    "two studies, first",
    "two studies, second",
)
_GAP_MM = 22.0  # between lesions, so that they do not touch at 15 mm spacing


@dataclass(frozen=True)
class PlannedLesion:
    """A lesion, not painted yet.

    Attributes:
        names: Final names of where it is; the first is where it was put.
        center: In the patient's millimetres (z, y, x).
        radii_mm: Along them.
        tissue: "soft", "lung" or "bone", for its density.
        suv: Its uptake.
    """

    names: tuple[str, ...]
    center: Point
    radii_mm: Point
    tissue: str
    suv: float


@dataclass(frozen=True)
class PlannedCase:
    """One examination.

    Attributes:
        case_id: Relative folder of its files.
        split: "train" or "test".
        seed: Of grid and noise.
        body: Who it is.
        lesions: None if it is healthy.
        hard_case: What is hard about it; empty for the others.
    """

    case_id: str
    split: str
    seed: tuple[int, ...]
    body: WholeBody
    lesions: tuple[PlannedLesion, ...]
    hard_case: str = ""


@cache
def place_list() -> list[dict[str, Any]]:
    """Read the places of the twin: where they stand in the tree, and where in the body."""
    path = Path(__file__).with_name("autopet_places.json")
    rows = json.loads(path.read_text(encoding="utf-8"))["places"]
    tree = {place.name: place for place in place_vocabulary().places}
    return [
        {"body": place.body, "coarse": place.coarse, "fine": place.fine} | row
        for row in rows
        for place in (tree[row["name"]],)
    ]


def place_vocabulary() -> PlaceVocabulary:
    """Read the tree of places and the texts of its words; it is shipped by the name "phantom"."""
    return PlaceVocabulary.load("phantom")


def plan_cases(parameters: TwinParameters) -> list[PlannedCase]:
    """Plan all cases; more of the same seed begin with the same ones, split by split."""
    return [*_plain_cases(parameters), *(_hard_cases(parameters) if parameters.hard_cases else ())]


def _plain_cases(parameters: TwinParameters) -> Iterator[PlannedCase]:
    for split, count in (("train", parameters.num_train), ("test", parameters.num_test)):
        for number in range(count):
            yield _plain_case(split, (parameters.seed, int(split == "test"), number))


def _hard_cases(parameters: TwinParameters) -> Iterator[PlannedCase]:
    for number, kind in enumerate(_HARD_CASES):
        # pairs are of one person
        person = number - 1 if kind in ("mirrored right", "two studies, second") else number
        yield _hard_case(kind, (parameters.seed, 2, number), (parameters.seed, 2, person))


def _plain_case(split: str, seed: tuple[int, ...]) -> PlannedCase:
    rng = np.random.default_rng((*seed, 0))
    patient, study = _patient_id(split, rng), int(rng.integers(10000, 99999))
    body = sample_body(rng)
    count = 0 if rng.random() < NEGATIVE_SHARE else int(rng.integers(1, 7))
    return PlannedCase(f"{patient}_{study}", split, seed, body, _draw_lesions(body, count, rng))


def _hard_case(kind: str, seed: tuple[int, ...], person: tuple[int, ...]) -> PlannedCase:
    rng = np.random.default_rng((*person, 0))
    patient, body = _patient_id("train", rng), sample_body(rng)
    study = int(np.random.default_rng((*seed, 1)).integers(10000, 99999))
    case_id, lesions = f"{patient}_{study}", _draw_lesions(body, 3, rng)
    if kind == "no lesion":
        lesions = ()
    elif kind == "one voxel":
        lesions = (replace(lesions[0], radii_mm=(1.0, 1.0, 1.0)), *lesions[1:])
    elif kind == "at the border":
        edge: Point = (BOTTOM_MM * body.scale[0] + 4.0, 0.0, 62.0)
        lesions = (
            *lesions,
            PlannedLesion(("Left thigh muscle",), edge, (14.0, 14.0, 14.0), "soft", 11.0),
        )
    elif kind == "misspelt place":
        lesions = (replace(lesions[0], names=(f"{lesions[0].names[0]}e",)), *lesions[1:])
    elif kind.startswith("mirrored"):
        lesions = tuple(_to_side(kind.split()[1], body, (*person, 3)))
        seed = person  # same lattice and noise: the side is all that differs
    elif kind.startswith("two studies"):
        # as the data set is handed out: a folder for each study of a patient, named with blanks
        day = "01-0" + ("1" if kind.endswith("first") else "8")
        case_id = f"{patient}/{day}-2003-NA-PET-CT Ganzkoerper  primaer mit KM-{study}"
    return PlannedCase(case_id, "train", seed, body, lesions, kind)


def _patient_id(split: str, rng: np.random.Generator) -> str:
    """Draw an id that the hash puts into the wanted split."""
    while True:
        name = f"PETCT_{int(rng.integers(16**10)):010x}"
        if split_of(name, TEST_FRACTION) == split:
            return name


def _draw_lesions(
    body: WholeBody, count: int, rng: np.random.Generator
) -> tuple[PlannedLesion, ...]:
    """Draw lesions in different places, none near another."""
    lesions: list[PlannedLesion] = []
    for index in rng.permutation(len(place_list())):
        if len(lesions) == count:
            break
        between = rng.random() < TWO_PLACES_SHARE
        lesion = _lesion_at(place_list()[int(index)], body, rng, between=between)
        if all(_distance(lesion, other) > _GAP_MM for other in lesions):
            lesions.append(lesion)
    return tuple(lesions)


def _lesion_at(
    place: dict[str, Any], body: WholeBody, rng: np.random.Generator, *, between: bool = False
) -> PlannedLesion:
    """Draw a lesion in a place, or halfway to the nearest one of the same coarse place."""
    offset = rng.uniform(-1, 1, size=3) * place["spread"]
    middle, names = np.asarray(place["center"], dtype=np.float64), [place["name"]]
    others = [
        other
        for other in place_list()
        if other["coarse"] == place["coarse"] and other["name"] != place["name"]
    ]
    if between and others:
        # the nearest: between others lies a third one
        other = min(others, key=lambda one: float(np.linalg.norm(middle - one["center"])))
        middle = (middle + other["center"]) / 2
        names.append(other["name"])
    center = (middle + offset) * body.scale
    radii = rng.uniform(9, 17) * rng.uniform(0.85, 1.15, size=3)
    return PlannedLesion(
        tuple(names), _point(center), _point(radii), place["tissue"], float(rng.uniform(7, 18))
    )


def _to_side(side: str, body: WholeBody, seed: tuple[int, ...]) -> Iterator[PlannedLesion]:
    """Put two lesions on one side; for the other side all but the side is the same."""
    word = side.capitalize()
    for number, end in enumerate(("lung apex", "groin nodes")):
        rng = np.random.default_rng((*seed, number))
        left = next(place for place in place_list() if place["name"] == f"Left {end}")
        lesion = _lesion_at(left, body, rng)
        z, y, x = lesion.center
        center = (z, y, x if side == "left" else -x)
        yield replace(lesion, names=(f"{word} {end}",), center=center)


def _distance(one: PlannedLesion, other: PlannedLesion) -> float:
    between = np.linalg.norm(np.asarray(one.center) - np.asarray(other.center))
    return float(between) - max(one.radii_mm) - max(other.radii_mm)


def _point(values: np.ndarray) -> Point:
    return float(values[0]), float(values[1]), float(values[2])
