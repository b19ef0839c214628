import json
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medvlp.data.anatomy_lesions import AnatomyLesions
from medvlp.data.anatomy_positions import PositionRule, near_another
from medvlp.data.label_names import read_label_names
from medvlp.data.lesion_patch import frame_around
from medvlp.data.lesion_recipe import PatchChannel, PatchGrid
from medvlp.data.painted_lesions import PaintedLesionRecipe, ellipsoid
from medvlp.data.records import StudyRecord
from medvlp.data.sampling import EachPlace
from medvlp.data.scan_policy import ScanPolicy
from medvlp.data.volume_datamodule import VolumeDataModule

SHARED = Path(os.environ.get("MEDVLP_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data"))
RULE = PositionRule((6, 2, 2), 8.0, held_out=(0.25, 0.25), margin_mm=2.0, seed=1)
AFFINE = np.array([[-2.0, 0, 0, 30], [0, 2, 0, -40], [0, 0, 2, 10], [0, 0, 0, 1]])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A scan of 40 mm whose left and right half are labels 1 and 2; label 7 has no place."""
    labels = np.ones((20, 20, 20), np.uint8)
    labels[10:], labels[:, :, :3] = 2, 7
    image = np.where(labels == 1, -50, 60).astype(np.int16)
    image[0] = -1000
    nib.save(nib.Nifti1Image(image, AFFINE), tmp_path / "ct.nii.gz")
    nib.save(nib.Nifti1Image(labels, AFFINE), tmp_path / "labels.nii.gz")
    (tmp_path / "names.txt").write_text("1 Fat_L 2001\n2 Meat_R 2002\n7 Odd 9\n")
    (tmp_path / "places.yaml").write_text(
        "places:\n  Box:\n    Left half: {Fat: {name: Left fat, synonyms: [Fat_L]}}\n"
        "    Right half: {Meat: {name: Right meat, synonyms: [Meat_R]}}\n"
        "descriptions: {Left half: on the left, Fat: fat, Right half: on the right, Meat: meat}\n"
    )
    return tmp_path


def source_of(folder: Path, rule: PositionRule = RULE) -> AnatomyLesions:
    return AnatomyLesions(
        str(folder / "ct.nii.gz"),
        str(folder / "labels.nii.gz"),
        vocabulary=str(folder / "places.yaml"),
        names=str(folder / "names.txt"),
        positions=rule,
    )


def label_at(labels: "nib.Nifti1Image", point_lps: np.ndarray) -> int:
    x, y, z = point_lps
    index = np.linalg.inv(labels.affine) @ [-x, -y, z, 1.0]
    return int(np.asarray(labels.dataobj)[tuple(np.rint(index[:3]).astype(int))])


def centres(studies: list[StudyRecord], split: str) -> np.ndarray:
    return np.array(
        [lesion.box_mm[:3] for study in studies if study.split == split for lesion in study.lesions]
    )


def test_the_place_of_a_lesion_is_the_label_where_it_lies(folder: Path) -> None:
    source = source_of(folder)
    studies = list(source.studies())
    labels = nib.load(folder / "labels.nii.gz")
    lesions = [lesion for study in studies for lesion in study.lesions]
    names = {1: ("Left fat", "Left half", "Fat"), 2: ("Right meat", "Right half", "Meat")}
    for lesion in lesions:
        expected = names[label_at(labels, np.array(lesion.box_mm[:3]))]
        assert (lesion.place, lesion.coarse, lesion.fine) == expected
        assert all(3 <= side <= 8 for side in lesion.box_mm[3:])
    assert len(lesions) == 2 * 10 and len({lesion.lesion_id for lesion in lesions}) == 20
    assert [skip.reason for skip in source.skips] == [
        "label 7: 'Odd' is not a place of the vocabulary; no lesions"
    ]
    assert [list(study.lesions) for study in source_of(folder).studies()] == [
        list(study.lesions) for study in studies
    ]


def test_held_out_lesions_keep_their_distance(folder: Path) -> None:
    rule = PositionRule((400, 40, 40), 8.0, held_out=(0.25, 0.25), margin_mm=4.0, seed=3)
    studies = list(source_of(folder, rule).studies())
    train = centres(studies, "train")
    for split in ("val", "test"):
        away = np.linalg.norm(centres(studies, split)[:, None] - train[None], axis=-1)
        assert away.min() > 4.0 - 2 * np.sqrt(3)  # two positions anywhere in their voxels
    blocks = {study.study_id: study.split for study in studies}
    assert len(blocks) == len(studies) and set(blocks.values()) == {"train", "val", "test"}
    assert all(study.patient_id == study.study_id for study in studies)


def test_border_cases_lie_within_reach_of_another_label() -> None:
    labels = np.ones((1, 1, 9), np.uint8)
    labels[..., 5:] = 2
    near = near_another(labels, 2.0, (1.0, 1.0, 1.0))
    assert np.flatnonzero(near).tolist() == [3, 4, 5, 6]
    apart = np.zeros((9, 9, 9), np.uint8)
    apart[4, 4, 4] = 1
    assert not near_another(apart, 2.0, (1.0, 1.0, 1.0)).any()
    rule = PositionRule((20, 0, 0), 100.0, held_out=(0.0, 0.0), border_mm=1.0)
    drawn = rule.draw(labels, (1.0, 1.0, 1.0), [1, 2])
    assert {round(x) for x in drawn.index[:, 2].tolist()} == {4, 5}
    assert rule.draw(labels, (1.0, 1.0, 1.0), [9, 1]).without == [(9, "train")]


def test_names_come_from_tables_of_any_kind(tmp_path: Path) -> None:
    table = tmp_path / "names.json"
    table.write_text(json.dumps({"total": {"1": "spleen"}, "other": {"1": "x"}}))
    assert read_label_names(table, tmp_path) == {1: "spleen"}
    table.write_text(json.dumps({"3": "liver"}))
    assert read_label_names(table, tmp_path) == {3: "liver"}
    table.write_text("[]")
    with pytest.raises(ValueError, match=r"names\.json holds no names"):
        read_label_names(table, tmp_path)
    with pytest.raises(FileNotFoundError, match="names of the labels"):
        read_label_names(tmp_path / "none.txt", tmp_path)


def test_what_is_not_there_or_has_no_place_is_told(folder: Path) -> None:
    (folder / "names.txt").write_text("1 One\n2 Two\n")
    with pytest.raises(ValueError, match=r"none of the labels of .*labels\.nii\.gz has a place"):
        list(source_of(folder).studies())
    (folder / "ct.nii.gz").unlink()
    with pytest.raises(FileNotFoundError, match=r"ct\.nii\.gz is not there"):
        list(source_of(folder).studies())
    with pytest.raises(ValueError, match="radius_mm is"):
        AnatomyLesions("a", "b", vocabulary="c", radius_mm=(3.0, 1.0))
    with pytest.raises(ValueError, match="expected two shares that leave some"):
        PositionRule(held_out=(0.5, 0.5))


def recipe() -> PaintedLesionRecipe:
    return PaintedLesionRecipe(
        [PatchChannel("image", 0.0, 1.0), PatchChannel("lesion_mask")],
        (20.0, 40.0),
        fine=PatchGrid([8] * 3, [2.0] * 3),
    )


def test_an_ellipsoid_fills_its_box_and_is_never_lost() -> None:
    frame = frame_around(np.zeros(3), np.full(3, 1.0), [9, 9, 9])
    lesion = ellipsoid(frame, np.array([0.5, 0.5, 0.5, 4.0, 2.0, 6.0]))
    assert [int(lesion.any(axis=axis).any(axis=0).sum()) for axis in (1, 0)] == [7, 7]
    assert ellipsoid(frame, np.array([2.3, 0, 0, 0.1, 0.1, 0.1])).sum() == 1
    assert not ellipsoid(frame, np.array([99.0, 0, 0, 1, 1, 1])).any()


def test_lesions_are_painted_into_their_patches_alone(folder: Path) -> None:
    data = VolumeDataModule(
        source_of(folder),
        recipe(),
        cache_dir=str(folder / "cache"),
        scans=ScanPolicy(train=EachPlace(), evaluation=EachPlace()),
        batch_size=4,
        in_memory=True,
    )
    data.prepare_data()
    data.setup("test")
    for batch in data.test_dataloader():
        for patch, target in zip(batch["image"].numpy(), batch["target"], strict=True):
            inside = patch[1] == 1
            assert inside[4, 4, 4] and 1 <= inside.sum() < 64
            assert target["place"] in ("Left fat", "Right meat")
            around = -50.0 if target["place"] == "Left fat" else 60.0
            assert 20 <= abs(float(patch[0, 4, 4, 4]) - around) <= 40 or inside.sum() > 1
    assert len(list((folder / "cache").rglob("*.b2nd"))) == 1  # blocks share the one scan


def test_a_painted_lesion_has_no_uptake() -> None:
    with pytest.raises(ValueError, match="have no uptake"):
        PaintedLesionRecipe(
            [PatchChannel("image"), PatchChannel("pet")],
            (1.0, 2.0),
            fine=PatchGrid([8] * 3, [2.0] * 3),
        )


@pytest.mark.skipif(not SHARED.is_dir(), reason="no shared data beside the checkout")
def test_a_real_label_map_of_totalsegmentator(tmp_path: Path) -> None:
    real = SHARED / "ct_body_totalseg"
    places = "places: {Abdomen: {Liver: {Liver: {name: Liver, synonyms: [liver]}}}}\n"
    (tmp_path / "p.yaml").write_text(places)
    source = AnatomyLesions(
        str(real / "example_ct_sm.nii.gz"),
        str(real / "example_seg.nii.gz"),
        vocabulary=str(tmp_path / "p.yaml"),
        positions=PositionRule((20, 5, 5)),
    )
    lesions = [lesion for study in source.studies() for lesion in study.lesions]
    assert len(lesions) == 30 and {lesion.place for lesion in lesions} == {"Liver"}
    assert len(source.skips) == 40  # organs that this vocabulary does not have
