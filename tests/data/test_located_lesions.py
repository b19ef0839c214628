from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from medvlp.data.engine import LocalEngine
from medvlp.data.folder import Folder
from medvlp.data.lesion_recipe import LesionRecipe, PatchChannel, PatchGrid
from medvlp.data.located_lesions import WithLesions
from medvlp.data.preparation import prepare_dataset
from medvlp.data.quarantine import PreparationError
from medvlp.data.sampling import EachLesion
from medvlp.data.scan_policy import ScanPolicy
from medvlp.data.volume_datamodule import VolumeDataModule

from .conftest import write_table

LESION = PatchChannel("lesion_mask")
BOX = {"x": -8.0, "y": -8.0, "z": 8.0, "width": 4.0, "height": 4.0, "depth": 4.0}


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A folder of two CTs with masks, and no PET."""
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    mask = np.zeros((10, 10, 10), np.uint8)
    mask[3:5, 3:5, 3:5] = 1
    for name in ("a", "b"):
        image = np.random.default_rng(0).integers(-1000, 400, (10, 10, 10)).astype(np.int16)
        nib.save(nib.Nifti1Image(image, affine), tmp_path / f"{name}.nii.gz")
        nib.save(nib.Nifti1Image(mask, affine), tmp_path / f"{name}_mask.nii.gz")
    studies: list[dict[str, object]] = [
        {"study_id": name, "path": f"{name}.nii.gz", "lesion_mask": f"{name}_mask.nii.gz"}
        for name in ("a", "b")
    ]
    write_table(tmp_path / "studies.csv", studies)
    lesions = [("a", "Upper spleen"), ("b", "Uper spleen"), ("c", "Spleen")]
    write_table(
        tmp_path / "lesions.csv", [{"study_id": s, **BOX, "GT": place} for s, place in lesions]
    )
    return tmp_path


def source_of(own: Path, **options: Any) -> WithLesions:
    folder = Folder(str(own / "studies.csv"), str(own), **options)
    return WithLesions(folder, str(own / "lesions.csv"), vocabulary="whole_body")


def recipe_of(*channels: PatchChannel, **options: Any) -> LesionRecipe:
    return LesionRecipe((*channels, LESION), fine=PatchGrid([8] * 3, [1.0] * 3), **options)


def test_lesions_of_a_table_beside_a_folder(own: Path) -> None:
    source = source_of(own)
    first, second = source.studies()
    assert first.lesions[0].place == "Upper spleen" and first.lesions[0].coarse == "Spleen"
    assert second.lesions[0].place == ""
    told = {skip.id: skip.reason for skip in source.skips}
    assert "did you mean 'Upper spleen'" in told["b, lesion 001"]
    assert told["c"].startswith("1 lesions of lesions.csv, but no such study")
    assert source.name == "folder_lesions" and source.describe()["lesions"].endswith("lesions.csv")


@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_without_pet_two_channels_come_out(own: Path, modality: str, tmp_path: Path) -> None:
    image = PatchChannel("image", 40.0, 200.0, clip=True)
    options: dict[str, Any] = {}
    if modality == "MR":
        image, options = PatchChannel("image", None, None), {"image_dtype": "float32"}
    module = VolumeDataModule(
        source_of(own, modality=modality),
        recipe_of(image, **options),
        cache_dir=str(tmp_path / "cache"),
        scans=ScanPolicy(EachLesion(), EachLesion()),
        engine=LocalEngine(1),
        batch_size=2,
    )
    module.prepare_data()
    module.setup("test")
    batch = next(iter(module.test_dataloader()))
    assert batch["image"].shape == (2, 2, 8, 8, 8)
    assert batch["image"][:, 1].flatten(1).any(1).all()  # the lesion is seen
    assert batch["sample_id"] == ["a/001", "b/001"]


def test_a_recipe_with_pet_says_what_to_do_without(own: Path, tmp_path: Path) -> None:
    recipe = recipe_of(PatchChannel("image"), PatchChannel("pet"))
    with pytest.raises(
        PreparationError, match=r"needs pet .*data/recipe=hcl_al_ct .*in_channels=2"
    ):
        prepare_dataset(source_of(own), recipe, cache_dir=tmp_path, engine=LocalEngine(1))
