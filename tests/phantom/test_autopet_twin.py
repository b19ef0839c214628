import csv
import gzip
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from medvlp.data.autopet import AutoPET
from medvlp.data.engine import LocalEngine
from medvlp.data.lesion_geometry import Placement, boxes_mm, foreground_box
from medvlp.data.lesion_recipe import LesionRecipe, PatchChannel, PatchGrid
from medvlp.data.preparation import prepare_dataset
from medvlp.data.sampling import EachLesion
from medvlp.data.volume_dataset import SampleKey, VolumeDataset
from medvlp.phantom.autopet import write_autopet_twin
from medvlp.phantom.autopet_plan import place_list, plan_cases
from medvlp.phantom.autopet_source import PhantomAutoPET
from medvlp.phantom.twin_parameters import TwinParameters
from medvlp.phantom.whole_body import ORGANS
from tests.phantom.twin_files import content

SIZES: dict[str, Any] = {"num_train": 5, "num_test": 2, "seed": 3, "shape": (64, 48, 48)}
WANTED = TwinParameters(**SIZES, hard_cases=True)


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_autopet_twin(tmp_path_factory.mktemp("autopet") / "twin", WANTED)


@pytest.fixture(scope="module")
def truth(twin: Path) -> dict[str, Any]:
    return json.loads((twin / "ground_truth/cases.json").read_text())


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def case_of(truth: dict[str, Any], kind: str) -> str:
    return next(case for case, facts in truth.items() if facts["hard_case"] == kind)


def volume(path: Path) -> tuple[np.ndarray, np.ndarray]:
    image = nib.load(path)
    return np.asarray(image.dataobj), image.affine


def test_layout_and_columns_are_those_of_the_real_set(twin: Path, truth) -> None:
    for case in truth:
        names = {path.name for path in (twin / "FDG-PET-CT-Lesions" / case).iterdir()}
        assert names == {"CT.nii.gz", "SUV.nii.gz", "SEG.nii.gz"}
        assert (twin / "lesion_mask" / case / "SEG_MultiLabel.nii.gz").is_file()
    box = ["x", "y", "z", "width", "height", "depth"]
    assert list(rows(twin / "anno.csv")[0]) == ["image_path", *box, "GT"]
    assert list(rows(twin / "bbox.csv")[0]) == ["image_path", "image_path1", "image_path2", *box]
    for table in ("anno.csv", "bbox.csv"):
        assert (twin / table).read_bytes().startswith(b"\xef\xbb\xbf")


def test_values_lattices_and_uptake(twin: Path, truth) -> None:
    case = next(case for case, facts in truth.items() if facts["lesions"])
    folder = twin / "FDG-PET-CT-Lesions" / case
    ct, ct_affine = volume(folder / "CT.nii.gz")
    suv, pet_affine = volume(folder / "SUV.nii.gz")
    assert ct.dtype == np.int16 and suv.dtype == np.float32
    assert ct.min() < -950 and ct.shape[0] > suv.shape[0]
    assert not np.allclose(ct_affine[:3, 3], pet_affine[:3, 3])
    organs, _ = volume(twin / "ground_truth/organs" / f"{case}.nii.gz")
    present = {ORGANS[number] for number in np.unique(organs)}
    assert present == set(ORGANS)
    for name, low, high in (("left lung", -950, -700), ("liver", 30, 90), ("skull", 300, 900)):
        assert low < ct[organs == ORGANS.index(name)].mean() < high
    # left is left: the left lung has the larger x in LPS, the smaller in RAS
    sides = [
        np.argwhere(organs == ORGANS.index(f"{side} lung")).mean(0) for side in ("left", "right")
    ]
    left, right = (ct_affine @ [*middle, 1] for middle in sides)
    assert left[0] < 0 < right[0]
    assert suv.max() > 6  # brain, bladder


def test_masks_boxes_and_truth_agree(twin: Path, truth) -> None:
    checked = 0
    for case, facts in truth.items():
        mask, affine = volume(twin / "lesion_mask" / case / "SEG_MultiLabel.nii.gz")
        assert set(np.unique(mask)) == {0, *(lesion["label"] for lesion in facts["lesions"])}
        columns = np.diag([-1.0, -1.0, 1.0]) @ affine[:3, :3]
        spacing = np.linalg.norm(columns, axis=0)
        where = Placement(np.diag([-1.0, -1.0, 1.0]) @ affine[:3, 3], spacing, columns / spacing)
        for lesion in facts["lesions"]:
            box = foreground_box((mask == lesion["label"]).T)
            found = boxes_mm([box], where)[0]
            np.testing.assert_allclose(found, lesion["box_mm"], atol=2e-3)
            off = np.abs(found[:3] - lesion["center_lps_mm"])
            assert (off <= found[3:] / 2 + 1).all()
            checked += 1
    assert checked == len(rows(twin / "anno.csv")) == len(rows(twin / "bbox.csv")) > 15


def test_lesions_are_hot_and_where_their_place_is(twin: Path, truth) -> None:
    hot, between = [], 0
    for case, facts in truth.items():
        if facts["hard_case"] in ("corrupt SUV", "one voxel"):
            continue
        suv, affine = volume(twin / "FDG-PET-CT-Lesions" / case / "SUV.nii.gz")
        for lesion in facts["lesions"]:
            x, y, z = lesion["center_lps_mm"]
            index = np.rint(np.linalg.inv(affine) @ [-x, -y, z, 1])[:3].astype(int)
            hot.append(suv[tuple(np.clip(index, 0, np.array(suv.shape) - 1))] > 2.5)
            side = lesion["places"][0].split()[0]
            if side in ("Left", "Right") and "liver" not in lesion["places"][0]:
                assert (x > 0) == (side == "Left")
            between += len(lesion["places"]) == 2
    assert np.mean(hot) > 0.85 and between


def test_a_lesion_between_two_places_is_not_in_a_third() -> None:
    spine = [place for place in place_list() if place["coarse"] == "Spine"]
    found = 0
    for case in plan_cases(TwinParameters(**{**SIZES, "num_train": 300})):
        for lesion in case.lesions:
            if "Lumbar vertebrae" in lesion.names and len(lesion.names) == 2:
                height = lesion.center[0] / case.body.scale[0]
                nearest = sorted(spine, key=lambda place: abs(height - place["center"][0]))
                assert {place["name"] for place in nearest[:2]} == set(lesion.names)
                found += 1
    assert found


def test_hard_cases_are_hard(twin: Path, truth) -> None:
    record = json.loads((twin / "twin.json").read_text())
    assert len(record["hard_cases"]) == 10
    assert not truth[case_of(truth, "no lesion")]["lesions"]
    masks = twin / "lesion_mask"
    mask, _ = volume(masks / case_of(truth, "one voxel") / "SEG_MultiLabel.nii.gz")
    assert (mask == 1).sum() == 1
    mask, _ = volume(masks / case_of(truth, "at the border") / "SEG_MultiLabel.nii.gz")
    assert (mask[:, :, 0] == mask.max()).any()
    case = case_of(truth, "flipped mask")
    _, affine = volume(masks / case / "SEG_MultiLabel.nii.gz")
    assert affine[0, 0] > 0 and affine[2, 2] < 0
    path = twin / "FDG-PET-CT-Lesions" / case_of(truth, "corrupt SUV") / "SUV.nii.gz"
    with pytest.raises(EOFError), gzip.open(path) as file:
        file.read()
    studies = [case for case in truth if "/" in case]
    assert len(studies) == 2 and len({case.partition("/")[0] for case in studies}) == 1


def test_mirrored_twins_differ_in_side_only(twin: Path, truth) -> None:
    left, right = (case_of(truth, f"mirrored {side}") for side in ("left", "right"))
    for one, other in zip(truth[left]["lesions"], truth[right]["lesions"], strict=True):
        assert other["places"] == [one["places"][0].replace("Left", "Right")]
        x, y, z = one["center_lps_mm"]
        assert other["center_lps_mm"] == [-x, y, z] and one["suv"] == other["suv"]
    images = [volume(twin / "FDG-PET-CT-Lesions" / case / "CT.nii.gz") for case in (left, right)]
    np.testing.assert_array_equal(images[0][1], images[1][1])
    assert 0 < (images[0][0] != images[1][0]).mean() < 0.01


def test_the_real_sets_reader_reads_it(twin: Path, truth) -> None:
    source = AutoPET(str(twin))
    studies = {study.study_id: study for study in source.studies()}
    assert set(studies) == set(truth)
    assert Counter(study.split for study in studies.values()) == {"train": 15, "test": 2}
    assert all(studies[case].split == facts["split"] for case, facts in truth.items())
    assert [skip.id for skip in source.skips] == [f"{case_of(truth, 'misspelt place')}, lesion 001"]
    assert "did you mean" in source.skips[0].reason
    for case, facts in truth.items():
        assert len(studies[case].lesions) == len(facts["lesions"])
        for lesion, fact in zip(studies[case].lesions, facts["lesions"], strict=True):
            if facts["hard_case"] != "misspelt place":
                assert lesion.place.split(",") == fact["places"] and lesion.coarse and lesion.fine
    places = source.places()
    assert places is not None and {"Heart", "Lung apex"} <= set(places.descriptions)


def test_patches_of_every_lesion_show_it(twin: Path, truth, tmp_path: Path) -> None:
    ct, pet = PatchChannel("image", 40.0, 200.0, clip=True), PatchChannel("pet", 3.0, 3.0)
    recipe = LesionRecipe(
        [ct, pet, PatchChannel("lesion_mask")],
        coarse=PatchGrid([16, 16, 24], [16.0, 16.0, 16.0]),
        fine=PatchGrid([16, 16, 16], [6.0, 6.0, 6.0]),
    )
    manifest = prepare_dataset(
        AutoPET(str(twin)),
        recipe,
        cache_dir=tmp_path,
        engine=LocalEngine(0),
        max_quarantine_share=0.1,
    )
    assert len(manifest) == len(truth) - 1  # the corrupt PET
    quarantined = rows(manifest.folder / "quarantine.csv")
    assert any("SUV.nii.gz" in row["reason"] for row in quarantined)
    dataset = VolumeDataset(
        manifest,
        recipe,
        rows=np.arange(len(manifest)),
        scans=EachLesion(),
        texts=None,
        label_names=(),
        seed=0,
    )
    samples = dataset[[SampleKey(0, index) for index in range(len(dataset))]]
    assert len({sample.sample_id for sample in samples}) == len(samples) > 15
    for sample in samples:
        (inputs,) = sample.inputs
        assert inputs["lesion_coarse"].shape == (3, 16, 16, 24)
        assert inputs["lesion_fine"].shape == (3, 16, 16, 16)
        for stage in ("lesion_coarse", "lesion_fine"):
            assert 0 < inputs[stage][2].sum() < 400, (sample.sample_id, stage)
        assert sample.target is not None and sample.target["lesion_id"] in sample.sample_id


def test_it_can_be_written_by_several_processes_and_finished_later(
    twin: Path, tmp_path: Path
) -> None:
    again = write_autopet_twin(tmp_path / "twin", WANTED, num_workers=1)
    files = sorted(path.relative_to(twin) for path in twin.rglob("*") if path.is_file())
    assert files == sorted(p.relative_to(again) for p in again.rglob("*") if p.is_file())
    for file in files:
        assert content(twin / file) == content(again / file), file
    lost = next((again / "FDG-PET-CT-Lesions").rglob("CT.nii.gz"))
    before = content(lost)
    lost.unlink()
    record = json.loads((again / "twin.json").read_text())
    (again / "twin.json").write_text(json.dumps({**record, "finished": False}))
    write_autopet_twin(again, WANTED)
    assert content(lost) == before


def test_the_source_writes_itself_and_refuses_another(tmp_path: Path) -> None:
    sizes: dict[str, Any] = {"num_train": 2, "num_test": 1, "shape": (32, 24, 24)}
    source = PhantomAutoPET(str(tmp_path / "twin"), **sizes, hard_cases=False)
    source.materialise()
    assert len(list(source.studies())) == 3
    assert source.describe()["num_train"] == 2 and source.describe()["test_fraction"] == 0.2
    with pytest.raises(ValueError, match="num_train: found 2, asked for 3"):
        write_autopet_twin(source.root, replace(source.parameters, num_train=3))
