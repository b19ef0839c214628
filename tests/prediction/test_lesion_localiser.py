"""What the localiser keeps of its models, and their precision."""

import gc
import weakref
from pathlib import Path

import pytest

from medvlp import localise
from medvlp.data.lesion_places import PlaceVocabulary
from medvlp.evaluation.place_cascade import PlaceCascade
from medvlp.prediction.lesion_localiser import LesionLocaliser
from medvlp.prediction.lesion_stage import load_stage

from .lesion_files import outputs, write_published, write_study


def test_models_are_not_kept(tmp_path: Path) -> None:
    stage = load_stage(write_published(tmp_path / "params.pth"), "coarse")
    cascade = PlaceCascade(PlaceVocabulary.load("phantom"))
    text = weakref.ref(stage.model.text)
    localiser = LesionLocaliser(cascade, coarse=stage)
    del stage
    gc.collect()
    assert text() is None and "coarse" in localiser.stages


def test_bf16_is_another_number_and_only_if_asked_for(tmp_path: Path) -> None:
    coarse = write_published(tmp_path / "params.pth")
    command = [*write_study(tmp_path), "--coarse", str(coarse), "--vocabulary", "phantom"]
    found: list[float] = []
    for precision in ([], ["--precision", "fp32"], ["--precision", "bf16"]):
        localise.main([*command, *precision, "--no-pictures", "--out", str(tmp_path / "out")])
        _, told = outputs(tmp_path / "out")
        found.append(told[2]["places"][0]["probability"])
    assert found[0] == found[1] != found[2]
    assert found[2] == pytest.approx(found[0], abs=0.1)
