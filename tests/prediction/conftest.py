"""A small random model in a checkpoint as `medvlp.train` writes it, and small scans."""

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from medvlp import config
from medvlp.callbacks.provenance import CHECKPOINT_KEY
from medvlp.data.recipe import recipe_hash

BRAIN = {
    "_target_": "medvlp.data.brain_recipe.BrainRecipe",
    "size": [12, 16, 16],
    "intensity": {
        "_target_": "medvlp.data.intensity.Percentiles",
        "low": 0.5,
        "high": 99.5,
    },
    "mean": 0.449,
    "std": 0.226,
    "resize": 20,
}
PATCHES = {
    "_target_": "medvlp.layers.patch_embed.PatchEmbed3D",
    "in_channels": 1,
    "patch_size": [4, 4, 4],
    "embed_dim": 48,
}
IMAGES = {
    "_target_": "medvlp.data.image_recipe.ImageRecipe",
    "size": 32,
    "mean": [0.5, 0.5, 0.5],
    "std": [0.25, 0.25, 0.25],
}
IMAGE_TOWER = {
    "_target_": "medvlp.vision.image_vit.ImageViT",
    "image_size": 32,
    "patch_size": 8,
    "width": 48,
    "depth": 2,
    "num_heads": 2,
}


def write_checkpoint(
    path: Path, changes: dict[str, Any], *overrides: str, experiment: str = "hlip_ctrate"
) -> Path:
    """Write an experiment on phantoms with some keys changed, and random weights."""
    cfg = config.compose([f"experiment=phantom/{experiment}", "paths.run=none", *overrides])
    for key, value in changes.items():
        OmegaConf.update(cfg, key, value, merge=False)
    tree = config.resolve(cfg)
    torch.manual_seed(0)
    model = instantiate(tree["model"], _convert_="all")
    fields = instantiate(tree["data"]["recipe"], _convert_="all").describe()
    content = {
        "state_dict": {f"model.{name}": tensor for name, tensor in model.state_dict().items()},
        "pytorch-lightning_version": "2.6.0",
        "global_step": 3,
        CHECKPOINT_KEY: {
            "config": tree,
            "source": config.plain(cfg),
            "recipe": {"hash": recipe_hash(fields), "fields": fields},
            "commit": "abc",
        },
    }
    torch.save(content, path)
    return path


@pytest.fixture(scope="session")
def chest_checkpoint(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("chest") / "chest.ckpt"
    return write_checkpoint(path, {"data.recipe.size": [24, 24, 24]})


@pytest.fixture(scope="session")
def brain_checkpoint(tmp_path_factory) -> Path:
    """A tower with levels scan and study, a table of four scans, and class-token pooling."""
    positions = {"_target_": "medvlp.layers.pos_embed.ScanPositions", "max_num_scans": 4}
    changes = {
        "data.recipe": BRAIN,
        "model.vision.patch_embed": PATCHES,
        "model.vision.grid": [3, 4, 4],
        "model.vision.levels": ["scan", "study"],
        "model.vision.scan_positions": positions,
        "model.vision.pooling": None,
        "model.image_projection.in_features": 48,
    }
    return write_checkpoint(tmp_path_factory.mktemp("brain") / "brain.ckpt", changes)


@pytest.fixture(scope="session")
def image_checkpoint(tmp_path_factory) -> Path:
    """A tower of 2D images of 32 pixels; no evaluation."""
    changes = {
        "data": {"_target_": "medvlp.data.image_datamodule.ImageDataModule", "recipe": IMAGES},
        "model.vision": IMAGE_TOWER,
        "model.image_projection.in_features": 48,
        "evaluation": {},
    }
    return write_checkpoint(tmp_path_factory.mktemp("images") / "images.ckpt", changes)


def chest(shape: tuple[int, int, int] = (24, 28, 26)) -> np.ndarray:
    """Air around a cylinder of tissue with two lungs, in HU, axes (d, h, w)."""
    _, h, w = np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij")
    hu = np.where(h**2 + w**2 < 0.8, 40.0, -1000.0)
    hu[(h**2 + (np.abs(w) - 0.4) ** 2) < 0.06] = -850.0
    return hu.astype(np.int16)


def save_nifti(path: Path, array: np.ndarray, spacing: tuple[float, float, float]) -> Path:
    """Save axes (d, h, w) with the orientation SPL, as CT-RATE stores volumes."""
    depth, height, width = spacing
    affine = np.diag([-width, -height, depth, 1.0])
    affine[:3, 3] = [90.0, 100.0, -80.0]
    image = nib.Nifti1Image(array.transpose(2, 1, 0), affine)
    nib.save(image, path)
    return path


@pytest.fixture
def chest_scan(tmp_path) -> Path:
    return save_nifti(tmp_path / "doe_jane.nii.gz", chest(), (9.0, 8.0, 8.0))
