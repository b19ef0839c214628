"""The command that names the places of lesions, from files to files, with small random models."""

import csv
import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from torch import nn

from medvlp import localise
from medvlp.checkpoints.adapter import to_published
from medvlp.checkpoints.hcl_al_rules import HCL_AL
from medvlp.models.hcl_al import HCLAL
from medvlp.prediction.lesion_stage import load_stage
from medvlp.text.clip_transformer import ClipTextTransformer
from medvlp.vision.volume_cnn import BasicNet, DenseNet

from .conftest import write_checkpoint

SHAPE, SPACING = (20, 30, 30), (8.0, 6.0, 6.0)
BESIDE: dict[str, Any] = {
    "net": "ClipText_Fc_BasicNet",
    "spacing": [3, 3, 3],
    "crop_size": [32, 16, 16],
    "crop_normalizers": [
        {"type": 0, "mean": 40, "stddev": 200, "clip": True},
        {"type": 0, "mean": 3, "stddev": 3, "clip": False},
        {"type": 0, "mean": 0, "stddev": 1, "clip": False},
    ],
    "interpolation": ["linear", "linear", "nn"],
    "lesion_idx": [2],
    "sample_method": "fixed_length",
}


def published(path: Path, vision: Any = None, **beside: Any) -> Path:
    """Write a model as the published ones are."""
    torch.manual_seed(0)
    vision = BasicNet([32, 16, 16], base_channels=1) if vision is None else vision
    text = ClipTextTransformer(49408, 77, width=4, depth=1, num_heads=1, embed_dim=6)
    projections = {"image_projection": nn.Linear(vision.embed_dim, 6), "text_fc": nn.Linear(6, 6)}
    model = HCLAL(vision, text, **projections)
    weights = {f"module.{k}": v for k, v in to_published(model.state_dict(), HCL_AL).items()}
    torch.save({"state_dict": weights, **BESIDE, **beside}, path)
    return path


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("stages")
    coarse = write_checkpoint(folder / "coarse.ckpt", {}, experiment="hcl_al_coarse")
    fine = published(folder / "params.pth")
    return ["--coarse", str(coarse), "--fine", str(fine), "--vocabulary", "phantom"]


@pytest.fixture
def study(tmp_path: Path) -> list[str]:
    """Write CT, SUV and a mask on a finer grid; world LPS is voxel times spacing."""
    ct, suv = np.full(SHAPE, -1000, np.int16), np.full(SHAPE, 0.5, np.float32)
    ct[:, 5:25, 5:25] = 40
    mask = np.zeros((40, 60, 60), np.uint8)
    mask[10:14, 20:26, 20:26], mask[30, 40, 40] = 1, 2
    mask[20:22, 0:2, 0:2] = 3
    paths: list[str] = []
    for name, array, shrink in (("CT", ct, 1), ("SUV", suv, 1), ("SEG", mask, 2)):
        d, h, w = (length / shrink for length in SPACING)
        path = tmp_path / f"{name}.nii.gz"
        nib.save(nib.Nifti1Image(array.T, np.diag([-w, -h, d, 1.0])), path)
        paths.append(str(path))
    return paths


def outputs(folder: Path) -> tuple[list[dict[str, str]], list[dict[str, Any]]]:
    with (folder / "predictions.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return rows, json.loads((folder / "predictions.json").read_text(encoding="utf-8"))


def test_every_component_of_a_mask_is_named_and_drawn(
    study: list[str], stages: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    kept = tmp_path / "texts"
    localise.main([*study, *stages, "--out", str(out), "--sex", "F", "--text-cache", str(kept)])
    assert len(list(kept.iterdir())) == 2
    rows, told = outputs(out)
    assert [row["class"] for row in rows] == ["bbox"] * 3
    assert [row["remark"] for row in rows] == [
        "",
        "a single voxel",
        "its centre lies outside the body",
    ]
    assert len(rows[0]["coarse_labels"].split(",")) == 3  # looked into
    best = told[0]["places"][0]
    assert best["name"] == rows[0]["pred"] == best["path"][-1] or len(best["path"]) == 3
    pictures = sorted(path.name for path in out.glob("*.png"))
    assert pictures == ["lesion_0001.png", "lesion_0002.png", "lesion_0003.png"]
    assert "3 lesions, 0 without an answer, 2 with a remark" in capsys.readouterr().out


def test_boxes_and_points_need_no_mask(study: list[str], stages: list[str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    boxes = ["--point", "90", "90", "80", "--point", "93", "90", "80", "--radius-mm", "12"]
    boxes += ["--box", "500", "0", "0", "9", "9", "9", "--box", "90", "90", "80", "0", "9", "9"]
    with pytest.raises(SystemExit) as end:
        localise.main([*study[:2], *stages, *boxes, "--out", str(out), "--no-pictures"])
    assert end.value.code == localise.NO_ANSWER_CODE
    rows, _ = outputs(out)
    remarks = [row["remark"] for row in rows]  # boxes come first
    assert "outside the image" in remarks[0] and "not above 0" in remarks[1]
    assert "overlaps that of lesion 4" in remarks[2] and "of lesion 3" in remarks[3]
    assert rows[2]["width"] == "24.0" and rows[1]["pred"] == ""
    assert not list(out.glob("*.png"))
    turned = ["--point", "-90", "-90", "80", "--radius-mm", "12", "--coordinates", "RAS"]
    localise.main([*study[:2], *stages, *turned, "--out", str(out)])
    again, _ = outputs(out)
    assert again[0]["fine_probs"] == rows[2]["fine_probs"] and "remark" not in again[0]


def test_a_mask_that_runs_the_other_way_and_mr(study: list[str], tmp_path: Path) -> None:
    target = "medvlp.data.lesion_recipe.PatchChannel"
    image = {"_target_": target, "field": "image", "mean": None, "std": None}
    mask = {"_target_": target, "field": "lesion_mask", "mean": 0.0, "std": 1.0}
    changes = {"data.recipe.channels": [image, mask], "data.recipe.image_dtype": "float32"}
    changes["model.vision.in_channels"] = 2
    coarse = write_checkpoint(tmp_path / "mr.ckpt", changes, experiment="hcl_al_coarse")
    ct: Any = nib.load(study[0])
    nib.save(nib.Nifti1Image(np.abs(ct.get_fdata()), ct.affine), tmp_path / "MR.nii.gz")
    seg: Any = nib.load(study[2])
    affine = seg.affine @ np.diag([-1.0, 1, 1, 1])
    affine[:3, 3] += seg.affine[:3, 0] * (seg.shape[0] - 1)
    flipped = tmp_path / "flipped.nii.gz"
    nib.save(nib.Nifti1Image(np.asarray(seg.dataobj)[::-1], affine), flipped)
    found: list[dict[str, dict[str, str]]] = []
    for path in (study[2], str(flipped)):
        arguments = [str(tmp_path / "MR.nii.gz"), path, "--coarse", str(coarse), "--no-pictures"]
        localise.main([*arguments, "--vocabulary", "phantom", "--out", str(tmp_path)])
        rows, _ = outputs(tmp_path)
        found.append({row["x"]: {k: row[k] for k in ("y", "coarse_probs")} for row in rows})
    assert len(found[0]) == 3 and found[0] == found[1]


def test_a_list_of_studies(study: list[str], stages: list[str], tmp_path: Path) -> None:
    table = tmp_path / "list.csv"
    table.write_text(
        "image_path,image_path1,image_path2\nCT.nii.gz,SUV.nii.gz,SEG.nii.gz\nno.nii.gz,a,b\n"
    )
    options = ["--list", str(table), "--images", str(tmp_path), "--mode", "mask", "--no-pictures"]
    with pytest.raises(SystemExit):
        localise.main([*stages, *options, "--out", str(tmp_path), "--compat", "published"])
    rows, _ = outputs(tmp_path)
    assert len(rows) == 4 and "no.nii.gz" in rows[3]["remark"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "files of one study, or --list"),
        (["CT.nii.gz"], "1 files came; the models see image, pet, lesion_mask"),
        (["a", "b", "--point", "1", "1", "1", "--radius-mm", "0"], "above 0"),
        (["--list", "x.csv", "--point", "1", "1", "1"], "a list has boxes of its own"),
    ],
)
def test_command_lines_that_cannot_be(
    arguments: list[str], message: str, stages: list[str], tmp_path: Path
) -> None:
    with pytest.raises(SystemExit, match=message):
        localise.main([*arguments, *stages, "--out", str(tmp_path)])


def test_files_that_are_no_such_stage(stages: list[str], tmp_path: Path) -> None:
    coarse = Path(stages[1])
    with pytest.raises(ValueError, match="it is not the fine stage"):
        load_stage(coarse, "fine")
    dense = published(tmp_path / "dense.pth", DenseNet(2, (1,)), net="ClipText_Fc_DenseNet")
    with pytest.raises(ValueError, match="a DenseNet with text tower CLIP"):
        load_stage(dense, "fine")
    torch.save({"state_dict": {"a": torch.zeros(1)}, "epoch": 1}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match="neither weights of HCL-AL"):
        load_stage(tmp_path / "other.pth", "fine")
