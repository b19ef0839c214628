"""HSENet: preprocessing of CT-RATE and BIMCV-R, volumes and slices."""

import csv
import json
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from medvlp.data.body_volume import BodyVolume
from medvlp.data.hsenet_recipe import HSENetRecipe
from medvlp.data.image_recipe import ImageRecipe
from medvlp.data.readers.registry import read
from medvlp.data.scan import Rescale, Scan
from medvlp.data.slice_stack import SliceStack

from .registry import Case, handles

WINDOW_3D, WINDOW_2D = (-1000.0, 200.0), (-1000.0, 1000.0)
SPACING = (1.5, 0.75, 0.75)
FINAL, SMALL = (32, 256, 256), (8, 40, 36)
JPEG_TOLERANCE, BYTE_TOLERANCE = 2, 1


@handles("hsenet", "preprocess")
def preprocess(case: Case) -> None:
    """Run both published chains on every volume, with the numbers of its table row."""
    with (case.path / "metadata.csv").open(newline="", encoding="utf-8") as file:
        rows = {row["VolumeName"]: row for row in csv.DictReader(file)}
    for name in case.config["volumes"]:
        path = case.path / f"case_{name}.nii.gz"
        scan = read(path)
        stated = _stated(scan, rows[path.name])
        _volume(case, f"ctrate3d_{name}", stated, SPACING)
        _volume(case, f"bimcv3d_{name}", scan, None)
        _slices_of_ct_rate(case, name, stated)
        stack = SliceStack(scale="volume", few="repeat", compat="bimcv_r")
        _bytes(case, f"bimcv2d_{name}_uint8", stack(scan)[case.config["selected_slices"]])
    case.assert_all_compared()


def _stated(scan: Scan, row: dict[str, str]) -> Scan:
    """Apply the row on top of any scaling by the header, as published."""
    slope, intercept = float(row["RescaleSlope"]), float(row["RescaleIntercept"])
    rule = Rescale(scan.rescale.slope * slope, scan.rescale.intercept * slope + intercept)
    xy, z = float(json.loads(row["XYSpacing"])[0]), float(row["ZSpacing"])
    return replace(scan, rescale=rule, spacing_mm=(z, xy, xy))


def _volume(case: Case, key: str, scan: Scan, spacing: tuple[float, ...] | None) -> None:
    body = BodyVolume(WINDOW_3D, spacing_mm=spacing, compat="published")
    prepared = HSENetRecipe(FINAL, body, store_dtype="float32").prepare(scan)
    image = torch.from_numpy(prepared.arrays["image"])[None]
    figures = [image.min(), image.max(), image.double().mean(), image.double().std(correction=0)]
    ours: dict[str, Any] = {
        "sub": image[:, ::4, 3::16, 5::16],
        "stats": torch.stack([figure.float() for figure in figures]),
        "before_crop_shape": torch.tensor([1, *prepared.facts["resampled_shape"]]),
        "after_crop_shape": torch.tensor([1, *prepared.facts["body_shape"]]),
    }
    if f"{key}_small" in case.outputs:
        small = HSENetRecipe(SMALL, body, store_dtype="float32").prepare(scan)
        ours["small"] = torch.from_numpy(small.arrays["image"])[None]
    for name, tensor in ours.items():
        if f"{key}_{name}" in case.outputs:
            case.assert_close(f"{key}_{name}", tensor, case.outputs[f"{key}_{name}"])


def _slices_of_ct_rate(case: Case, name: str, scan: Scan) -> None:
    selected = case.config["selected_slices"]
    raw, decoded = (
        SliceStack(window_hu=WINDOW_2D, spacing_mm=SPACING, jpeg_quality=quality, compat="ct_rate")(
            scan
        )
        for quality in (None, 95)
    )
    _bytes(case, f"ctrate2d_{name}_uint8", raw[selected])
    _bytes(case, f"ctrate2d_{name}_jpeg_decoded", decoded[selected], JPEG_TOLERANCE)
    key = f"ctrate2d_{name}_mean_per_slice"
    means = torch.from_numpy(raw.astype(np.float64).mean(axis=(1, 2)))
    case.assert_close(key, means, case.outputs[key])
    _biomedclip(case, f"biomedclip_input_{name}_slice", decoded)


def _biomedclip(case: Case, prefix: str, decoded: np.ndarray) -> None:
    """Compare the slices whose number stands in the name of an output, if there are any."""
    transform = ImageRecipe(
        224, mean=case.config["biomedclip_mean"], std=case.config["biomedclip_std"]
    )
    recipe = HSENetRecipe(FINAL, BodyVolume(WINDOW_3D), slices=SliceStack(), slice_input=transform)
    for key in [key for key in case.outputs if key.startswith(prefix)]:
        number, kind = key.removeprefix(prefix).split("_", 1)
        (pixels,) = recipe.slices_input(decoded[[int(number)]])
        ours = pixels[:, 2::8, 3::8] if kind == "sub" else pixels.double().mean(dim=(1, 2))
        case.assert_close(key, ours, case.outputs[key])


def _bytes(case: Case, key: str, ours: np.ndarray, tolerance: int = BYTE_TOLERANCE) -> None:
    expected = case.outputs[key].float()
    case.assert_close(key, torch.from_numpy(ours.astype(np.float32)), expected, atol=tolerance)
