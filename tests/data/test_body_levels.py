from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medvlp.data.anatomy_lesions import AnatomyLesions
from medvlp.data.anatomy_positions import PositionRule
from medvlp.data.body_levels import SidesAndLevels, organ_word
from medvlp.data.lesion_places import PlaceVocabulary
from tests.data.trunk_files import write_trunk


def source_of(folder: Path) -> AnatomyLesions:
    return AnatomyLesions(
        str(folder / "ct.nii.gz"),
        str(folder / "segmentation.nii.gz"),
        division=SidesAndLevels(
            {level: (f"vertebrae_{level}",) for level in ("T12", "L1", "L2", "L3", "L4", "L5")},
            between=True,
            central_mm=36.0,
        ),
        vocabulary="trunk_levels",
        positions=PositionRule((8, 2, 2), 24.0, held_out=(0.2, 0.2), border_mm=0.0),
    )


def test_a_place_is_an_organ_at_a_side_and_level(tmp_path: Path) -> None:
    write_trunk(tmp_path)
    lesions = [lesion for study in source_of(tmp_path).studies() for lesion in study.lesions]
    found = {lesion.place: lesion.box_mm for lesion in lesions}
    # LPS: x grows to the left, z upwards; the trunk is 240 mm wide, each level 36 mm high
    assert found["Colon at left L3"][0] > 36 > -36 > found["Colon at right L3"][0]
    assert abs(found["Vertebrae at central L3"][0]) <= 36
    heights = [found[f"Colon at left {level}"][2] for level in ("L5", "L4", "L3", "L2", "T12")]
    assert heights == sorted(heights)
    assert {lesion.coarse for lesion in lesions} >= {"Left L3", "Right L3", "Central L4"}
    assert {lesion.fine for lesion in lesions} == {"Colon", "Vertebrae"}


def test_a_map_without_bones_has_no_levels(tmp_path: Path) -> None:
    write_trunk(tmp_path)
    path = tmp_path / "segmentation.nii.gz"
    map_of = nib.load(path)
    only = np.where(np.asarray(map_of.dataobj) == 20, 20, 0).astype(np.uint8)
    nib.save(nib.Nifti1Image(only, map_of.affine), path)
    with pytest.raises(ValueError, match="has none of the labels that tell levels"):
        list(source_of(tmp_path).studies())


def test_the_shipped_places_are_organs_at_sides_and_levels() -> None:
    places = PlaceVocabulary.load("trunk_levels")
    assert (len(places.places), len(places.coarse_words), len(places.all_fine_words)) == (
        413,
        51,
        31,
    )
    assert all(place.name == f"{place.fine} at {lower(place.coarse)}" for place in places.places)
    assert organ_word("gluteus_maximus_left") == "Gluteus maximus"


def test_a_flat_vocabulary_has_the_same_places_and_texts_of_their_own() -> None:
    places, flat = (PlaceVocabulary.load(f"trunk_levels{end}") for end in ("", ":flat"))
    assert [place.name for place in flat.places] == [place.name for place in places.places]
    assert flat.coarse_words == ("Anywhere",)
    assert len({flat.text_of(word) for word in flat.all_fine_words}) == len(places.places)
    assert flat.text_of("Colon at left L3") == (
        "in the colon on the left at the level of the third lumbar vertebra"
    )
    assert flat.digest != places.digest


def lower(word: str) -> str:
    return word[0].lower() + word[1:]
