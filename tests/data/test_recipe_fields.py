"""Recipes with fields of their own, from files through the cache to a batch."""

from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from matplotlib import colormaps
from PIL import Image

from medvlp.checkpoints.frozen_slice_encoder import FrozenSliceEncoder
from medvlp.data.anatomy_mask import AnatomyMask
from medvlp.data.anatomy_recipe import AnatomyRecipe
from medvlp.data.body_volume import BodyVolume
from medvlp.data.brain_recipe import BrainRecipe
from medvlp.data.engine import LocalEngine
from medvlp.data.hsenet_augmentation import HSENetAugmentation
from medvlp.data.hsenet_recipe import HSENetRecipe
from medvlp.data.image_recipe import ImageRecipe
from medvlp.data.intensity import HounsfieldWindow, Percentiles
from medvlp.data.manifest import Manifest
from medvlp.data.quality import montage_file, write_montage
from medvlp.data.read_scan import read_scan
from medvlp.data.recipe import Recipe
from medvlp.data.records import ScanRecord, StudyRecord, StudySource
from medvlp.data.sampling import AllScans
from medvlp.data.scan_policy import ScanPolicy
from medvlp.data.slice_stack import SliceStack
from medvlp.data.splits import Splits
from medvlp.data.volume_datamodule import VolumeDataModule

WINDOW = (-1000.0, 200.0)


class Files(StudySource):
    """Four studies of two scans each, with masks on a grid of half the spacing."""

    name = "files"
    label_names = ()

    def __init__(self, root: Path, modality: str) -> None:
        self.root, self.modality, self.skips = root, modality, []

    def materialise(self) -> None:
        """Write the files."""
        generator = np.random.default_rng(0)
        self.root.mkdir()
        for name in (f"{study}{scan}" for study in "abcd" for scan in "12"):
            size = generator.integers(9, 13, 3)
            array = np.full(size, -1000.0)
            body = array[2:-2, 2:-2]
            body[...] = 40 + generator.normal(0, 20, body.shape)
            affine = np.diag([-1.0, -1.0, 2.0, 1.0])
            nib.save(nib.Nifti1Image(array.astype(np.int16), affine), self.root / f"{name}.nii.gz")
            labels = np.zeros(size * 2, np.uint8)
            labels[8:14, 6:12, 4:14] = 51
            fine = affine @ np.diag([0.5, 0.5, 0.5, 1.0])
            nib.save(nib.Nifti1Image(labels, fine), self.root / f"{name}_mask.nii.gz")

    def studies(self) -> Iterator[StudyRecord]:
        """Yield them; the last is for testing."""
        for study in "abcd":
            scans = tuple(self._scan(f"{study}{scan}") for scan in "12")
            yield StudyRecord(study, study, "test" if study == "d" else "train", scans)

    def _scan(self, name: str) -> ScanRecord:
        masks = {"anatomy_mask": self.root / f"{name}_mask.nii.gz"}
        path = self.root / f"{name}.nii.gz"
        return ScanRecord(name, path, modality=self.modality, companions=masks)


def module(recipe: Recipe, folder: Path, modality: str = "CT") -> VolumeDataModule:
    flips = HSENetAugmentation(flip_probs=(0.5, 0.5, 0.5), intensity_prob=0.5)
    augment = [flips] if isinstance(recipe, HSENetRecipe) else []
    data = VolumeDataModule(
        Files(folder / "raw", modality),
        recipe,
        cache_dir=str(folder / "cache"),
        scans=ScanPolicy(AllScans(), AllScans(), augment=augment),
        splits=Splits(0.0),
        batch_size=3,
        engine=LocalEngine(1),
    )
    data.prepare_data()
    data.setup("fit")
    return data


def test_image_and_anatomy_mask_reach_the_batch_together(tmp_path: Path) -> None:
    mask = AnatomyMask({"lung": [10], "heart": [51]})
    recipe = AnatomyRecipe(
        (8, 6, 7), (1.0, 1.0, 1.0), window_hu=WINDOW, mask=mask, margin=(9, 9, 9)
    )
    data = module(recipe, tmp_path)
    (batch,) = data.train_dataloader()
    assert batch["image"].shape == (6, 1, 8, 6, 7) and batch["image"].dtype == torch.float32
    assert batch["anatomy_mask"].shape == (6, 8, 6, 7)
    assert set(batch["anatomy_mask"].unique().tolist()) == {0, 2}
    # the heart lies in the body, whichever way a crop was turned
    assert float(batch["image"][:, 0][batch["anatomy_mask"] == 2].min()) > 0.7
    again = next(iter(data.train_dataloader()))
    assert again["image"].equal(batch["image"])
    drawn = np.asarray(Image.open(montage_file(data.folder)).convert("RGB")).reshape(-1, 3)
    lung, heart = (np.round(np.array(colormaps["tab20"](n)[:3]) * 255) for n in (1, 2))
    in_legend, outlined = ((drawn == colour).all(1).sum() for colour in (lung, heart))
    assert 0 < in_legend < outlined  # no scan shows the lung


def test_volume_and_slices_reach_the_batch_together(tmp_path: Path) -> None:
    transform = ImageRecipe(16, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4))
    recipe = HSENetRecipe(
        (4, 8, 8), BodyVolume(WINDOW), slices=SliceStack(5), slice_input=transform
    )
    (batch,) = module(recipe, tmp_path).train_dataloader()
    assert batch["image"].shape == (6, 1, 4, 8, 8)
    assert batch["slices"].shape == (6, 5, 3, 16, 16)


def test_features_of_slices_reach_the_batch_in_their_place(tmp_path: Path) -> None:
    transform = ImageRecipe(16, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4))
    encoder = FrozenSliceEncoder(16, 8, width=12, depth=1, num_heads=3, mlp_dim=20, seed=0)
    parts = {"slices": SliceStack(5), "slice_input": transform, "slice_encoder": encoder}
    recipe = HSENetRecipe((4, 8, 8), BodyVolume(WINDOW), **parts, keep_slices=True)
    (batch,) = module(recipe, tmp_path).train_dataloader()
    assert batch["slice_features"].shape == (6, 5, 12)
    assert encoder(batch["slices"][3]).allclose(batch["slice_features"][3], atol=1e-5)
    lean = HSENetRecipe((4, 8, 8), BodyVolume(WINDOW), **parts)
    assert lean.hash != recipe.hash and lean.fields == ("image", "slice_features")
    data = module(lean, tmp_path / "lean")
    data.datasets["train"].load_into_memory()
    (batch,) = data.train_dataloader()
    assert batch["slice_features"].shape == (6, 5, 12) and "slices" not in batch
    arrays = {"image": np.zeros((4, 8, 8), np.uint16), "slice_features": np.zeros((4, 12))}
    with pytest.raises(ValueError, match=r"a1: slice_features are \(4, 12\), expected 5 slices"):
        lean.inputs(lambda name, region: arrays[name], {"scan_id": "a1"})
    refusing = SliceStack(50, few="refuse")
    with pytest.raises(ValueError, match="slices, and 50 are wanted; leave the scan out"):
        HSENetRecipe((4, 8, 8), BodyVolume(WINDOW), **{**parts, "slices": refusing}).prepare(
            read_scan(next(data.source.studies()).scans[0])
        )


@pytest.mark.parametrize("modality", ["MR", "CT"])
def test_brain_scans_of_any_size_make_one_batch(tmp_path: Path, modality: str) -> None:
    intensity = Percentiles() if modality == "MR" else HounsfieldWindow(0.0, 80.0)
    recipe = BrainRecipe((6, 12, 12), intensity, mean=0.449, std=0.226, resize=16)
    (batch,) = module(recipe, tmp_path, modality).train_dataloader()
    assert batch["image"].shape == (6, 1, 6, 12, 12)
    assert batch["num_scans"].tolist() == [2, 2, 2]


def test_the_quality_picture_needs_no_recipe_in_hu(tmp_path: Path) -> None:
    recipe = BrainRecipe((6, 12, 12), Percentiles(), mean=0.449, std=0.226, resize=16)
    data = module(recipe, tmp_path, "MR")
    write_montage(Manifest(data.folder), tmp_path / "quality.png", num_scans=2)
    assert (tmp_path / "quality.png").read_bytes()[:4] == b"\x89PNG"
