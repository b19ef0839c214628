"""A small study with lesions, and small weights of HCL-AL in files as they are published."""

import base64
import csv
import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from torch import nn

from medvlp.checkpoints.adapter import to_published
from medvlp.checkpoints.encrypted import MAGIC
from medvlp.checkpoints.hcl_al_rules import HCL_AL
from medvlp.models.hcl_al import HCLAL
from medvlp.text.clip_transformer import ClipTextTransformer
from medvlp.vision.volume_cnn import BasicNet

SHAPE, SPACING = (20, 30, 30), (8.0, 6.0, 6.0)
CROP = (32, 16, 16)
KEY = b"sixteen letters."
BESIDE: dict[str, Any] = {
    "epoch": 300,
    "batch": 7,
    "net": "ClipText_Fc_BasicNet",
    "max_stride": 16,
    "spacing": [3, 3, 3],
    "crop_size": [*CROP],
    "crop_normalizers": [
        {"type": 0, "mean": 40, "stddev": 200, "clip": True},
        {"type": 0, "mean": 3, "stddev": 3, "clip": False},
        {"type": 0, "mean": 0, "stddev": 1, "clip": False},
    ],
    "interpolation": ["linear", "linear", "nn"],
    "input_channel": 3,
    "lesion_idx": [2],
    "sample_method": "fixed_length",
    "box_percent_padding": 0.75,
}


def tiny_model() -> HCLAL:
    torch.manual_seed(0)
    vision = BasicNet(CROP, base_channels=1)
    text = ClipTextTransformer(49408, 77, width=4, depth=1, num_heads=1, embed_dim=6)
    projection, text_fc = nn.Linear(vision.embed_dim, 6), nn.Linear(6, 6)
    return HCLAL(vision, text, image_projection=projection, text_fc=text_fc).eval()


def write_published(path: Path, model: HCLAL | None = None, **beside: Any) -> Path:
    """Write a model as the published ones are."""
    model = tiny_model() if model is None else model
    weights = {f"module.{k}": v for k, v in to_published(model.state_dict(), HCL_AL).items()}
    torch.save({"state_dict": weights, **BESIDE, **beside}, path)
    return path


def encrypt(path: Path, target: Path, key: bytes = KEY) -> Path:
    """Put a weight file into the published container."""
    from Crypto.Cipher import AES

    cipher = AES.new(key, AES.MODE_CFB, iv=key, segment_size=8)
    coded = base64.b64encode(cipher.encrypt(path.read_bytes() + b"\1"))
    target.write_bytes(MAGIC.ljust(128, b"\0") + coded)
    return target


def write_study(folder: Path) -> list[str]:
    """Write CT, SUV and a mask on a finer grid; world LPS is voxel times spacing."""
    ct, suv = np.full(SHAPE, -1000, np.int16), np.full(SHAPE, 0.5, np.float32)
    ct[:, 5:25, 5:25] = 40
    mask = np.zeros((40, 60, 60), np.uint8)
    mask[10:14, 20:26, 20:26], mask[30, 40, 40] = 1, 2
    mask[20:22, 0:2, 0:2] = 3
    d, h, w = SPACING
    return [
        save(folder / "CT.nii.gz", ct),
        save(folder / "SUV.nii.gz", suv),
        save(folder / "SEG.nii.gz", mask, np.diag([-w / 2, -h / 2, d / 2, 1.0])),
    ]


def save(path: Path, array: np.ndarray, affine: np.ndarray | None = None) -> str:
    """Save axes (d, h, w), on the lattice of the CT unless an affine is given."""
    d, h, w = SPACING
    nib.save(
        nib.Nifti1Image(array.T, np.diag([-w, -h, d, 1.0]) if affine is None else affine), path
    )
    return str(path)


def outputs(folder: Path) -> tuple[list[dict[str, str]], list[dict[str, Any]]]:
    """Read both tables that the verb writes."""
    with (folder / "predictions.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return rows, json.loads((folder / "predictions.json").read_text(encoding="utf-8"))
