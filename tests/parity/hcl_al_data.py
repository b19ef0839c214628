"""HCL-AL: geometry of lesions, and patches around them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medvlp.data.lesion_channel import LesionChannel, lesion_channel
from medvlp.data.lesion_geometry import (
    Placement,
    best_match,
    box_iou,
    boxes_mm,
    components,
    grow,
    rotation_matrix,
)
from medvlp.data.lesion_patch import Frame, Volume, frame_around, normalise, sample
from medvlp.data.readers.registry import read

from .registry import Case, handles

README_TOLERANCE = 2e-5
TIED_SHARE = 1e-3  # of the lesion channel of turned patches: ties of the nearest neighbour
_INTERPOLATION = {"linear": "linear", "nn": "nearest"}


@handles("hcl_al", "geometry_primitives")
def geometry_primitives(case: Case) -> None:
    config, inputs, outputs = case.config, case.inputs, case.outputs
    labels, boxes = components(inputs["mask_zyx"].numpy())
    assert len(boxes) == config["num_components"]
    case.assert_close("components_zyx", torch.from_numpy(labels), outputs["components_zyx"])
    origin, spacing = _floats(config["origin"]), _floats(config["spacing"])
    for key in [key for key in config if key.startswith("direction_")]:
        name = key.removeprefix("direction_")
        placement = Placement(origin, spacing, _floats(config[key]))
        found = boxes_mm(boxes, placement, compat="published")
        case.assert_close(f"bbox_{name}", torch.from_numpy(found), outputs[f"bbox_{name}"])
        search = config[f"search_{name}"]
        assert best_match(found, _floats(search["query"])) == search["label"]
        if f"iou_{name}" in outputs:
            other = found + np.array([1.0, 1.0, 1.0, 0.5, 0.5, 0.5])
            iou = torch.from_numpy(np.stack([box_iou(other, box) for box in found]))
            case.assert_close(f"iou_{name}", iou, outputs[f"iou_{name}"])
    dilated = [
        grow(inputs[f"binary_{number}_zyx"].numpy() != 0, compat="published")
        for number in range(len(outputs["dilated_zyx"]))
    ]
    case.assert_close("dilated_zyx", torch.from_numpy(np.stack(dilated)), outputs["dilated_zyx"])
    pairs = zip(config["rotation_axes"], config["rotation_angles_rad"], strict=True)
    turns = np.stack([rotation_matrix(_floats(axis), float(angle)) for axis, angle in pairs])
    case.assert_close("rotation", torch.from_numpy(turns), outputs["rotation"])
    case.assert_all_compared()


@handles("hcl_al", "patch_inference")
def patch_inference(case: Case) -> None:
    volumes = _volumes(case.path, case.config["images"])
    mask = volumes[case.config["lesion_channel"]]
    for entry in case.config["cases"]:
        setting, box = case.config["settings"][entry["setting"]], _floats(entry["bbox"])
        spacing = _floats(setting["spacing"])
        frame = frame_around(box[:3], spacing, setting["crop_size"], compat="published")
        label = int(entry["target_label"])
        lesion = lesion_channel(mask, frame, box, label=label, compat="published")
        assert np.count_nonzero(lesion.mask) == entry["lesion_voxels"]
        assert np.unique(lesion.mask).tolist() == entry["lesion_values"]
        assert (lesion.match == "half spacing") == entry["fallback_half_spacing"]
        if entry["dilate_before_after"] is not None:
            assert _grown(mask, frame, box) == entry["dilate_before_after"]
        _compare(case, entry["key"], volumes, frame, lesion)
    case.assert_all_compared()


@handles("hcl_al", "patch_training")
def patch_training(case: Case) -> None:
    folder = case.path / case.config["images_in"]
    volumes = _volumes(folder.resolve(), case.config["images"])
    for entry in case.config["cases"]:
        frame = frame_around(
            _floats(entry["center"]),
            _floats(entry["spacing"]),
            entry["crop_size"],
            axes=_floats(entry["axes"]),
            compat="published",
        )
        mask = volumes[case.config["lesion_channel"]]
        lesion = lesion_channel(mask, frame, _floats(entry["bbox"]), compat="published")
        allowed = TIED_SHARE * lesion.mask.size
        assert abs(np.count_nonzero(lesion.mask) - entry["lesion_voxels"]) <= allowed
        _compare(case, entry["key"], volumes, frame, lesion, ties=int(allowed))
    case.assert_all_compared()


def _floats(values: list[Any]) -> np.ndarray:
    return np.array(values, dtype=np.float64)


def _volumes(folder: Path, names: list[str]) -> list[Volume]:
    volumes: list[Volume] = []
    for name in names:
        scan = read(folder / name)
        values = scan.array * np.float32(scan.rescale.slope) + np.float32(scan.rescale.intercept)
        volumes.append(Volume.of_array(values, scan.affine[:, [2, 1, 0, 3]]))
    return volumes


def _grown(mask: Volume, frame: Frame, box: np.ndarray) -> list[int]:
    """Count the voxels of the lesion at half spacing, before and after growing."""
    fine = frame.halved()
    labels, boxes = components(sample(mask, fine, "nearest").T)
    number = best_match(boxes_mm(boxes, fine.placement, compat="published"), box)
    grown = grow(labels == number, compat="published")
    return [np.count_nonzero(labels == number), np.count_nonzero(grown)]


def _compare(
    case: Case,
    key: str,
    volumes: list[Volume],
    frame: Frame,
    lesion: LesionChannel,
    *,
    ties: int = 0,
) -> None:
    """Compare the channels that are stored: all, or the lesion's only."""
    stored, lesion_index = case.outputs[key], int(case.config["lesion_channel"])
    chosen = [lesion_index] if len(stored) == 1 else list(range(len(volumes)))
    for index, expected in zip(chosen, stored, strict=True):
        rule: Mapping[str, Any] = case.config["normalizers"][index]
        if index == lesion_index:
            patch = lesion.mask
        else:
            how = _INTERPOLATION[case.config["interpolation"][index]]
            patch = sample(volumes[index], frame, how)
        mean, std = float(rule["mean"]), float(rule["stddev"])
        found = torch.from_numpy(normalise(patch, mean, std, clip=rule["clip"]))
        if index == lesion_index:
            assert int((found != expected).sum()) <= ties, f"{case.name}: {key}, lesion channel"
            case.compared.add(key)
        else:
            case.assert_close(key, found, expected, atol=README_TOLERANCE)
