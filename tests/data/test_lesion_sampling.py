"""Guards and rules of HCL-AL's samplers; their published statistics are in tests/parity."""

import numpy as np
import pytest

from medvlp.data.lesion_places import PlaceVocabulary
from medvlp.data.lesion_sampling import LesionIndex, LesionTag, draw_coarse, draw_fine
from medvlp.data.place_file import Place

PLACES = PlaceVocabulary(
    [
        Place(body, coarse, fine, f"{fine} of {coarse}")
        for body, coarses in {"Chest": "AB", "Pelvis": "C", "Leg": "D"}.items()
        for coarse in coarses
        for fine in ("x", "y")
    ],
    {},
)
TAGS = [
    LesionTag("A", "x", ("D", "C")),  # no lesion lies in D
    LesionTag("A", "y", ("C",)),
    LesionTag("B", "x", ("A",)),
    LesionTag("C", "y", ("A", "B")),
    LesionTag("C", "y", ("A", "B")),
]


def test_coarse_places_of_a_batch_differ() -> None:
    index, chance = LesionIndex(TAGS, PLACES), np.random.default_rng(0)
    batches = [draw_coarse(index, 3, chance) for _ in range(20)]
    assert all(sorted(TAGS[i].coarse for i in batch) == ["A", "B", "C"] for batch in batches)
    assert {i for batch in batches for i in batch} == {0, 1, 2, 3, 4}
    again = draw_coarse(index, 3, np.random.default_rng(7))
    assert again == draw_coarse(index, 3, np.random.default_rng(7))


def test_fine_batches_begin_with_what_is_confused() -> None:
    index, chance = LesionIndex(TAGS, PLACES), np.random.default_rng(0)
    for _ in range(20):
        batch = [TAGS[i] for i in draw_fine(index, 3, chance, related=1.0)]
        assert len({tag[:2] for tag in batch}) == 3
    only_c = LesionIndex(TAGS, PLACES, {"Chest": 0.0, "Pelvis": 1.0, "Leg": 1.0})
    assert [TAGS[i].coarse for i in draw_fine(only_c, 1, chance)] == ["C"]


def test_batches_that_cannot_be_filled() -> None:
    index, chance = LesionIndex(TAGS, PLACES), np.random.default_rng(0)
    assert (index.num_words, index.num_pairs) == (3, 4)
    with pytest.raises(ValueError, match=r"batch of 4 needs as many coarse places.* have 3"):
        draw_coarse(index, 4, chance)
    with pytest.raises(ValueError, match="batch of 5 needs as many pairs"):
        draw_fine(index, 5, chance)


@pytest.mark.parametrize(
    ("tags", "weights", "message"),
    [
        ([LesionTag("A", "z")], None, "'z' is not a fine word of 'A'"),
        ([LesionTag("E", "x")], None, "'E' is not a coarse place"),
        ([LesionTag("A", "x", ("E",))], None, "'E' is not a coarse place"),
        (TAGS, {"Chest": 1.0}, "for each of the body regions of the vocabulary: Chest, Pelvis"),
        (TAGS, {"Chest": 0.0, "Pelvis": 0.0, "Leg": 1.0}, "none of 5 lesions lies in a body"),
        ([], None, "none of 0 lesions"),
    ],
)
def test_lesions_that_cannot_be_drawn(
    tags: list[LesionTag], weights: dict[str, float] | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        LesionIndex(tags, PLACES, weights)
