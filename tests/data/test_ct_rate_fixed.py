from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medvlp.data.ct_rate import CTRate
from medvlp.data.ct_rate_fixed import CTRateFixed
from medvlp.data.ct_recipe import CTRecipe
from medvlp.data.engine import LocalEngine, PreparationError
from medvlp.data.manifest import dataset_folder
from medvlp.data.preparation import prepare_dataset
from medvlp.data.quarantine import quarantine_file

from .conftest import CTRateTree

AFFINE = np.diag([-1.0, -1.5, 2.0, 1.0])


@pytest.fixture
def fixed(tree: CTRateTree) -> CTRateTree:
    """The tree as v2 has it: folders renamed, HU in the files, the tables as they were."""
    tree.write()
    for split in ("train", "valid"):
        (tree.dataset / split).rename(tree.dataset / f"{split}_fixed")
        for path in (tree.dataset / f"{split}_fixed").rglob("*.nii.gz"):
            raw = np.asarray(nib.load(path).dataobj)
            nib.save(nib.Nifti1Image((raw - 1024).astype(np.int16), AFFINE), path)
    return tree


def test_the_header_is_trusted_and_the_table_is_not_applied(fixed: CTRateTree) -> None:
    fixed.metadata["train"][0] |= {"ZSpacing": "", "RescaleIntercept": ""}
    fixed.write_tables()
    source = CTRateFixed(str(fixed.root))
    studies = {study.study_id: study for study in source.studies()}
    scan = studies["train_1_a"].scans[0]
    assert not source.skips and len(studies) == 8
    assert (scan.spacing_mm, scan.rescale, scan.orientation) == (None, None, None)
    assert scan.path.parent == fixed.dataset / "train_fixed" / "train_1" / "train_1_a"
    assert studies["valid_1_a"].split == "test"


def test_each_version_points_to_the_other(tree: CTRateTree) -> None:
    tree.write()
    with pytest.raises(FileNotFoundError, match=r"train_fixed is not there, but train/.*=ct_rate;"):
        list(CTRateFixed(str(tree.root)).studies())
    for split in ("train", "valid"):
        (tree.dataset / split).rename(tree.dataset / f"{split}_fixed")
    with pytest.raises(FileNotFoundError, match=r"train_fixed/ is.*data=ct_rate_fixed"):
        list(CTRate(str(tree.root)).studies())


def test_raw_numbers_among_fixed_files_are_quarantined(
    fixed: CTRateTree, recipe: CTRecipe, tmp_path: Path
) -> None:
    path = fixed.dataset / "train_fixed/train_1/train_1_a/train_1_a_1.nii.gz"
    raw = np.asarray(nib.load(path).dataobj) + 1024
    nib.save(nib.Nifti1Image(raw.astype(np.int16), AFFINE), path)
    source = CTRateFixed(str(fixed.root))
    prepare_dataset(
        source, recipe, cache_dir=tmp_path, engine=LocalEngine(1), max_quarantine_share=0.2
    )
    folder = dataset_folder(tmp_path, source.name, recipe.hash)
    text = quarantine_file(folder).read_text()
    assert text.count("\n") == 2
    assert "train_1_a_1.nii.gz" in text and "need that of its table: data=ct_rate" in text


def test_fixed_files_in_a_v1_folder_are_quarantined(
    fixed: CTRateTree, recipe: CTRecipe, tmp_path: Path
) -> None:
    for split in ("train", "valid"):
        (fixed.dataset / f"{split}_fixed").rename(fixed.dataset / split)
    source = CTRate(str(fixed.root))
    with pytest.raises(PreparationError, match="16 of 16"):
        prepare_dataset(source, recipe, cache_dir=tmp_path, engine=LocalEngine(1))
    folder = dataset_folder(tmp_path, source.name, recipe.hash)
    assert quarantine_file(folder).read_text().count("HU already") == 16


def test_volumes_of_no_chest_are_left_out_and_named(fixed: CTRateTree) -> None:
    lines = "train/train_2/train_2_a/train_2_a_1.nii.gz\n\ntrain_2_a_2.nii.gz\n"
    (fixed.dataset / "metadata" / "no_chest_train.txt").write_text(lines)
    source = CTRateFixed(str(fixed.root))
    assert "train_2_a" not in {study.study_id for study in source.studies()}
    assert [skip.id for skip in source.skips] == ["train_2_a_1", "train_2_a_2"]
    assert source.skips[0].reason == "not of the chest, says no_chest_train.txt"


@pytest.mark.parametrize("version", [CTRate, CTRateFixed])
def test_masks_of_the_same_tree_are_companions(
    version: type[CTRate], tree: CTRateTree, fixed: CTRateTree
) -> None:
    if version is CTRate:
        (fixed.dataset / "train_fixed").rename(fixed.dataset / "train")
    name = "train_1_a_1.nii.gz"
    mask = fixed.dataset / "train_mask/train_1/train_1_a" / name
    mask.parent.mkdir(parents=True)
    mask.touch()
    source = version(str(fixed.root), splits=["train"], anatomy_masks="{split}_mask")
    studies = {study.study_id: study for study in source.studies()}
    first, second = studies["train_1_a"].scans
    assert first.companions == {"anatomy_mask": mask} and not second.companions
    assert len(source.skips) == 11 and "no organ mask" in source.skips[0].reason
    with pytest.raises(FileNotFoundError, match="merged_train_masks is not there"):
        list(version(str(fixed.root), anatomy_masks="merged_{split}_masks").studies())


def test_one_broken_row_does_not_refuse_the_data_set(tree: CTRateTree) -> None:
    tree.write()
    table = tree.dataset / "radiology_text_reports" / "train_reports.csv"
    lines = table.read_text().splitlines()
    lines[1] += ",one,cell,too,many"
    table.write_text("\n".join(lines))
    source = CTRate(str(tree.root))
    assert len(list(source.studies())) == 8
    assert [skip.reason for skip in source.skips] == [
        "train_reports.csv, line 2: the row has more or fewer cells than the header; row ignored"
    ]
