"""The cascade's rules by hand; published tables are in tests/parity."""

import pytest
import torch

from medvlp.data.lesion_places import PlaceVocabulary
from medvlp.data.place_file import Place
from medvlp.evaluation.place_cascade import LesionFacts, PlaceCascade, embed_words
from medvlp.types import Tokens

PLACES = PlaceVocabulary(
    [
        Place("Chest", "Left lung", "Apex", "Left apex"),
        Place("Chest", "Left lung", "Base", "Left base"),
        Place("Chest", "Right lung", "Apex", "Right apex"),
        Place("Chest", "Right lung", "Hilum", "Right hilum"),
        Place("Pelvis", "Pelvis", "Uterus", "Uterus", "F", 90.0),
    ],
    {"Left lung": "in the left lung", "Pelvis": "in the pelvis"},
)
SMALL = LesionFacts((10.0, 10.0, 10.0))
FINE = torch.log(torch.tensor([[0.4, 0.1, 0.3, 0.2]])) / 100  # Apex, Base, Hilum, Uterus


def test_coarse_places_are_ranked_with_ties_in_order() -> None:
    cosine = torch.tensor([[0.5, 0.5, 0.1], [-1.0, 1.0, 1.0]])
    first, second = PlaceCascade(PLACES, 2).coarse(cosine)
    assert first == {"Left lung": 0.5, "Right lung": 0.5}
    assert list(second) == ["Right lung", "Pelvis"]  # 0 is left out, even where all are asked for
    assert len(PlaceCascade(PLACES, None).coarse(cosine)[1]) == 2


def test_a_word_of_several_places_goes_to_the_most_probable_or_as_published_to_the_first() -> None:
    coarse = [{"Left lung": 0.6, "Right lung": 0.4}]
    fine = torch.log(torch.tensor([[0.3, 0.1, 0.6, 1e-9]])) / 100
    (right,) = PlaceCascade(PLACES).answers(coarse, fine, [SMALL])
    assert right.names == ("Right hilum", "Left apex", "Left base")
    assert right.probabilities == pytest.approx((0.6, 0.3, 0.1))
    (published,) = PlaceCascade(PLACES, compat="published").answers(coarse, fine, [SMALL])
    assert published.fine_coarse == ("Right lung", "Right lung", "Left lung")
    assert published.names == ("Right hilum", "Right apex", "Left base")


def test_unsure_fine_words_are_averaged_with_their_coarse_place() -> None:
    coarse = [{"Right lung": 0.8, "Left lung": 0.2}]
    (unsure,) = PlaceCascade(PLACES, fusion_threshold=0.9).answers(coarse, FINE, [SMALL])
    assert unsure.fine == ("Apex", "Hilum", "Base")
    assert unsure.probabilities == pytest.approx((0.65, 0.5875, 0.1625))
    (sure,) = PlaceCascade(PLACES, fusion_threshold=0.4).answers(coarse, FINE, [SMALL])
    assert sure.probabilities == pytest.approx((0.5, 0.375, 0.125))


def test_a_large_lesion_has_a_coarse_place() -> None:
    large = LesionFacts((101.0, 130.0, 150.0))
    (answer,) = PlaceCascade(PLACES).answers([{"Left lung": 0.7}], FINE, [large])
    assert answer.names == ("Left lung", "Left apex", "Left base")
    assert answer.probabilities[0] == 0.7
    thin = LesionFacts((100.0, 130.0, 150.0))
    assert PlaceCascade(PLACES).answers([{"Left lung": 0.7}], FINE, [thin])[0].names[0][:6] == (
        "Left a"
    )


def test_places_that_the_patient_or_the_lesion_rules_out() -> None:
    coarse = [{"Pelvis": 0.9, "Left lung": 0.1}]

    def first(cascade: PlaceCascade, side: float, sex: str) -> str:
        lesion = LesionFacts((side, 200.0, 200.0), sex)
        return cascade.answers(coarse, FINE, [lesion])[0].names[0]

    assert first(PlaceCascade(PLACES), 10, "M") == "Left apex"
    sure = torch.log(torch.tensor([[0.01, 0.01, 0.01, 0.97]])) / 100
    (woman,) = PlaceCascade(PLACES).answers(coarse, sure, [LesionFacts((9.0, 9.0, 9.0), "F")])
    assert woman.names[0] == "Uterus"
    assert first(PlaceCascade(PLACES), 95, "F") == "Left apex"
    only = [{"Pelvis": 1.0}]
    (nothing,) = PlaceCascade(PLACES).answers(only, FINE, [LesionFacts((9.0, 9.0, 9.0), "M")])
    assert (nothing.names, nothing.fine) == (("Pelvis",), ())


def test_the_coarse_stage_alone_and_places_that_are_none() -> None:
    (answer,) = PlaceCascade(PLACES).answers([{"Left lung": 0.7, "Pelvis": 0.3}], None, [SMALL])
    assert answer.names == ("Left lung", "Pelvis")
    with pytest.raises(ValueError, match="mean 'Left lung'"):
        PlaceCascade(PLACES).answers([{"Left long": 0.7}], FINE, [SMALL])
    with pytest.raises(ValueError, match="top_k is 0"):
        PlaceCascade(PLACES, 0)


def test_texts_of_like_length_are_embedded_together() -> None:
    seen: list[list[str]] = []

    def tokenizer(texts: list[str]) -> Tokens:
        seen.append(texts)
        lengths = torch.tensor([[len(text)] for text in texts])
        return Tokens(lengths.expand(-1, 20), torch.arange(20) < lengths)

    def embed(tokens: Tokens) -> torch.Tensor:
        return tokens.input_ids[:, :1].float()

    rows = embed_words(PLACES, ["Left lung", "Pelvis"], tokenizer, embed, batch_size=1)
    assert seen[1:] == [["in the pelvis"], ["in the left lung"]]
    assert rows.tolist() == [[16.0], [13.0]]
    with pytest.raises(ValueError, match="without a description of 'Apex'"):
        embed_words(PLACES, ["Apex"], tokenizer, lambda t: t.input_ids.float())
