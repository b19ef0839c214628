"""What stands above the planes; the planes themselves are drawn in test_localise."""

from medvlp.evaluation.place_cascade import PlaceAnswer
from medvlp.prediction.lesion_pictures import caption
from medvlp.prediction.lesion_study import LocalisedLesion


def test_caption_has_the_best_names_where_they_were_looked_for_and_what_is_odd() -> None:
    names, values = ("Liver segment V", "Liver segment VI", "Spleen", "Stomach"), (0.5, 0.3, 0.1, 0)
    facts = {"names": names, "probabilities": tuple(map(float, values))}
    facts |= {"coarse": ("Liver", "Spleen"), "coarse_probabilities": (0.75, 0.25)}
    fine = {"fine": names, "fine_coarse": names, "fine_probabilities": facts["probabilities"]}
    first = "Liver segment V 50%,  Liver segment VI 30%,  Spleen 10%"
    assert caption(LocalisedLesion({}, PlaceAnswer(**facts))) == first
    both = LocalisedLesion({}, PlaceAnswer(**facts, **fine), "very odd " * 20)
    lines = caption(both).split("\n")
    assert lines[:2] == [first, "among Liver 75%,  Spleen 25%"]
    assert len(lines) == 4 and max(map(len, lines)) <= 130
    assert caption(LocalisedLesion({}, None, "no file")) == "no file"
