"""HLIP: from files to stored volumes, and from these to network inputs."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medvlp.data.annotations import organ_annotation, raw_annotation
from medvlp.data.brain_recipe import BrainRecipe
from medvlp.data.ct_recipe import CTRecipe
from medvlp.data.intensity import Percentiles
from medvlp.data.readers.nifti import read_nifti_channels
from medvlp.data.readers.registry import read
from medvlp.data.scan import Rescale, Scan

from .registry import Case, handles

README_TOLERANCE_HU = 1e-3
README_TOLERANCE_MR = 1e-6
MEAN, STD = 0.449, 0.226  # README of loader_eval


@handles("hlip", "preprocess_ct_rate")
def preprocess_ct_rate(case: Case) -> None:
    """Prepare each file with its table row; header geometry is overruled, as published.

    The published code cast slope and intercept to the pixel type of integer files (the README's
    quirk; no real row is fractional). Ours computes in float, so that case is given the truncated
    constants: it then shows that nothing else differs.
    """
    for entry in case.config["cases"]:
        row, name = entry["row"], entry["nifti"].split(".")[0]
        x, y = json.loads(row["XYSpacing"])
        rule = Rescale(float(row["RescaleSlope"]), float(row["RescaleIntercept"]))
        if entry["pixel_type"] == "int16":
            rule = Rescale(float(int(rule.slope)), float(int(rule.intercept)))
        scan = read(case.path / entry["nifti"]).restated(
            spacing_mm=(float(row["ZSpacing"]), float(y), float(x)),
            rescale=rule,
            orientation="SPL",
        )
        for dtype in ("float32", "float16"):
            recipe = CTRecipe(
                size=(8, 8, 8),
                spacing_mm=[float(mm) for mm in case.config["target_spacing_zyx"]],
                window_hu=(-1150.0, 350.0),
                mean=MEAN,
                std=STD,
                store_dtype=dtype,
            )
            stored = torch.from_numpy(recipe.prepare(scan).arrays["image"])
            assert list(stored.shape) == entry["out_shape"]
            key = name if dtype == "float32" else f"{name}.float16"
            expected = case.outputs[key].float()
            case.assert_close(key, stored.float(), expected, atol=README_TOLERANCE_HU)
    case.assert_all_compared()


@handles("hlip", "preprocess_rad_chestct")
def preprocess_rad_chestct(case: Case) -> None:
    """Read each archive, state the spacing that the data set has, and resample."""
    config = case.config
    recipe = CTRecipe(
        size=(8, 8, 8),
        spacing_mm=[float(mm) for mm in config["target_spacing_zyx"]],
        window_hu=(-1150.0, 350.0),
        mean=MEAN,
        std=STD,
        store_dtype="float32",
    )
    paths = sorted(case.path.glob("*.npz"))
    assert len(paths) == len(case.outputs) == 1
    bare = read(paths[0])
    assert bare.provenance["key"] == config["npz_key"]
    case.assert_close("ct", torch.from_numpy(bare.array), case.inputs["ct"])
    spacing = float(config["source_spacing"])
    scan = bare.restated(spacing_mm=(spacing, spacing, spacing), orientation=recipe.orientation)
    stored = torch.from_numpy(recipe.prepare(scan).arrays["image"])
    case.assert_close("volume", stored, case.outputs["volume"], atol=README_TOLERANCE_HU)
    case.assert_all_compared()


@handles("hlip", "preprocess_pub_brain")
def preprocess_pub_brain(case: Case) -> None:
    """Prepare each file by the rule of each source; the first slices axis is theirs to choose."""
    paths = {Path(e["nifti"]).name.split(".")[0].split("_", 1)[1]: e for e in case.config["cases"]}
    for key, expected in case.outputs.items():
        name, variant = key.split(".")
        recipe = BrainRecipe(
            size=(8, 8, 8),
            intensity=Percentiles(),
            mean=MEAN,
            std=STD,
            slices_first=variant != "brats",
            store_dtype="float32",
        )
        path = case.path / paths[name]["nifti"]
        scan = _stacked(path) if variant == "stroke_fallback" else read(path)
        stored = recipe.prepare(replace(scan, modality="MR")).arrays["image"]
        case.assert_close(key, torch.from_numpy(stored), expected, atol=README_TOLERANCE_MR)
    case.assert_all_compared()


@handles("hlip", "loader_eval")
def loader_eval(case: Case) -> None:
    """Compare parts and statistics of the network inputs of stored volumes."""
    for key in case.outputs:
        name, mode, kind = key.split(".")
        if kind != "sub":
            continue
        if mode.startswith("slices"):
            image, sub = _brain_input(case, name, int(mode.removeprefix("slices")))
        else:
            image, sub = _chest_input(case, name, mode)
        case.assert_close(key, image[_ranges(sub)], case.outputs[key])
        stats = f"{name}.{mode}.stats"
        ours = image.double()
        figures = torch.stack([ours.mean(), ours.std(), ours.min(), ours.max()])
        expected = case.outputs[stats]
        case.assert_close(stats, figures[: len(expected)], expected)
    case.assert_all_compared()


@handles("hlip", "annotations")
def annotations(case: Case) -> None:
    """Build both files from the rows of a report table and the texts of each organ."""
    columns = ("VolumeName", "Impressions_EN", "Findings_EN")
    rows: list[dict[str, Any]] = [
        dict(zip(columns, row, strict=True)) for row in case.config["reports"]
    ]
    raw = raw_annotation(rows, compat="published")
    assert raw == case.config["raw_annotation"]
    assert list(raw) == case.config["key_order_raw"]
    volumes = [row["VolumeName"] for row in rows]
    organ = organ_annotation(case.config["desc_info"], case.config["conc_info"], volumes)
    assert organ == case.config["qwen_organ_annotation"]
    assert list(organ) == case.config["key_order_organ"]


def _chest_input(case: Case, name: str, mode: str) -> tuple[Tensor, str]:
    entry: dict[str, Any] = case.config[name]
    recipe = CTRecipe(
        size=entry["crop_out"],
        spacing_mm=(3.0, 1.0, 1.0),
        window_hu=[float(hu) for hu in case.config["hu_window"]],
        mean=MEAN,
        std=STD,
        fit="crop" if mode == "crop" else "resize",
    )
    stored = case.inputs[name].numpy()
    assert list(stored.shape) == entry["in_shape"]
    return recipe.network_input(stored)[0], entry.get(f"sub_{mode}", entry["sub"])


def _brain_input(case: Case, name: str, slices: int) -> tuple[Tensor, str]:
    recipe = BrainRecipe((slices, 224, 224), Percentiles(), mean=MEAN, std=STD)
    stored = case.inputs[name].numpy()
    stored = stored[..., 0] if stored.ndim == 4 else stored
    sub = case.config["brain"]["sub"].replace("slices", str(slices))
    return recipe.network_input(stored)[0], sub


def _ranges(text: str) -> tuple[slice, ...]:
    """Read "[46:66, 0:336, ::16] then last axis ::5"; a number may be a whole quotient "48//12"."""
    terms = re.findall(r"[\d:/]*:[\d:/]*", text)
    slices = [slice(*[_whole(part) for part in term.split(":")]) for term in terms]
    if len(slices) == 4:
        last, step = slices[2:]
        slices[2:] = [slice(last.start, last.stop, step.step)]
    return tuple(slices)


def _whole(text: str) -> int | None:
    numbers = [int(number) for number in text.split("//") if number]
    return None if not numbers else numbers[0] // (numbers[1] if len(numbers) > 1 else 1)


def _stacked(path: Path) -> Scan:
    channels = read_nifti_channels(path)
    return replace(channels[0], array=np.stack([channel.array for channel in channels]))
