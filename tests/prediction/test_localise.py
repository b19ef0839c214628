"""The command that names the places of lesions, from files to files, with small random models."""

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

from medvlp import localise
from medvlp.prediction.lesion_stage import load_stage

from .conftest import write_checkpoint
from .lesion_files import outputs, write_published, write_study


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("stages")
    coarse = write_checkpoint(folder / "coarse.ckpt", {}, experiment="hcl_al_coarse")
    fine = write_published(folder / "params.pth")
    return ["--coarse", str(coarse), "--fine", str(fine), "--vocabulary", "phantom"]


@pytest.fixture
def study(tmp_path: Path) -> list[str]:
    return write_study(tmp_path)


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
        (["CT.nii.gz"], "CT.nii.gz is not there"),
        (["a", "b", "--point", "1", "1", "1", "--radius-mm", "0"], "above 0"),
        (["--list", "x.csv", "--point", "1", "1", "1"], "a list has boxes of its own"),
        (["--list", "x.csv"], "x.csv is not there"),
    ],
)
def test_command_lines_that_cannot_be(
    arguments: list[str], message: str, stages: list[str], tmp_path: Path
) -> None:
    with pytest.raises(SystemExit, match=message):
        localise.main([*arguments, *stages, "--out", str(tmp_path)])


@pytest.mark.parametrize("stage", ["coarse", "fine"])  # a checkpoint of ours, a published file
@pytest.mark.parametrize(
    ("files", "more", "message"),
    [
        (1, [], "1 files came; the models see image, pet, lesion_mask"),
        (2, [], "2 files came"),
        (4, [], "4 files came"),
        (1, ["--point", "90", "90", "80"], "1 files came"),
        (3, ["--boxes", "boxes.csv"], "depth"),
        (0, ["--list", "list.csv", "--mode", "mask"], "image_path2"),
        (0, ["--list", "list.csv"], "image_path2"),
    ],
)
def test_what_the_models_cannot_look_at_is_told_before_they_are_built(
    stage: str,
    files: int,
    more: list[str],
    message: str,
    study: list[str],
    stages: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def loaded(*_: object, **__: object) -> None:
        raise AssertionError("weights were loaded")

    for module in ("lesion_stage", "loaded_model"):
        monkeypatch.setattr(f"medvlp.prediction.{module}.load_weights", loaded)
    monkeypatch.chdir(tmp_path)
    Path("boxes.csv").write_text("x,y,z,width,height\n90,90,80,9,9\n")
    Path("list.csv").write_text("image_path,image_path1\nCT.nii.gz,SUV.nii.gz\n")
    path = stages[1] if stage == "coarse" else stages[3]
    arguments = [*(study * 2)[:files], *more, "--coarse", path, *stages[4:], "--out", str(tmp_path)]
    with pytest.raises(SystemExit, match=message):
        localise.main(arguments)
    with pytest.raises(AssertionError, match="weights were loaded"):
        localise.main([*study, "--coarse", path, *stages[4:], "--out", str(tmp_path)])


def test_files_that_are_no_such_stage(stages: list[str], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="it is not the fine stage"):
        load_stage(Path(stages[1]), "fine")
    torch.save({"state_dict": {"a": torch.zeros(1)}, "epoch": 1}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match="states no spacing"):
        load_stage(tmp_path / "other.pth", "fine")
