"""What is drawn, and what stands above it; whole pictures are made in test_localise."""

from pathlib import Path

import numpy as np
import pytest

from medvlp.data.lesion_recipe import LesionRecipe, PatchChannel, PatchGrid
from medvlp.data.records import Lesion
from medvlp.data.scan import Scan
from medvlp.evaluation.place_cascade import PlaceAnswer
from medvlp.prediction import lesion_pictures
from medvlp.prediction.lesion_pictures import caption, lesion_picture
from medvlp.prediction.lesion_study import LocalisedLesion, SeenLesion
from medvlp.prediction.pictures import Shown


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


@pytest.mark.parametrize(("size", "samples"), [(16, 96), (64, 128), (128, 128)])
def test_a_patch_of_few_samples_is_drawn_from_more(
    size: int, samples: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Shown] = []
    monkeypatch.setattr(
        lesion_pictures, "overlay_planes", lambda _, shown, *__, **___: drawn.append(shown)
    )
    affine = np.diag([-2.0, -2.0, 2.0, 1.0])
    # brighter upwards: 1 HU a millimetre
    heights = np.broadcast_to(np.arange(0, 200, 2, dtype=np.int16)[:, None, None], (100, 100, 100))
    scan = Scan(heights, affine, (2.0, 2.0, 2.0), "SPL")
    answer = PlaceAnswer(("Liver",), (1.0,), ("Liver",), (1.0,))
    lesion = Lesion("1", (100.0, 100.0, 100.0, 8.0, 8.0, 8.0))
    recipe = LesionRecipe(
        [PatchChannel("image", 40.0, 200.0)],
        coarse=PatchGrid((size,) * 3, (128 / size,) * 3),
    )
    seen = SeenLesion(LocalisedLesion({}, answer), scan, lesion)
    assert lesion_picture(Path("unused.png"), seen, recipe)
    (shown,) = drawn
    assert shown.image.shape == (samples,) * 3
    assert shown.spacing_mm == pytest.approx((128 / samples,) * 3)
    middle = shown.image[:, samples // 2, samples // 2]
    assert middle[samples // 2] == pytest.approx(100.0)
    assert np.diff(middle) == pytest.approx(128 / samples, rel=1e-4)
