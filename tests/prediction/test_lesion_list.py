"""Lists of lesions through a small cascade; published checkpoints are in tests/parity."""

import csv
import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from torch import nn

from medvlp.data.lesion_places import PlaceVocabulary
from medvlp.data.lesion_recipe import LesionRecipe, PatchChannel, PatchGrid
from medvlp.data.place_file import Place
from medvlp.evaluation.place_cascade import PlaceCascade
from medvlp.models.hcl_al import HCLAL
from medvlp.prediction.lesion_list import localise_list, write_json, write_table
from medvlp.prediction.lesion_localiser import LesionLocaliser, LesionStage
from medvlp.types import Tokens
from medvlp.vision.volume_cnn import BasicNet

WORDS = ("Left lung", "Pelvis", "Apex", "Uterus")
PLACES = PlaceVocabulary(
    [
        Place("Chest", "Left lung", "Apex", "Left apex"),
        Place("Pelvis", "Pelvis", "Uterus", "Uterus", "F"),
    ],
    {word: word.lower() for word in WORDS},
)
BOX = "x,y,z,width,height,depth"
IMAGES = "CT.nii.gz,SEG.nii.gz"


class Letters(nn.Module):
    """Features of a text: how often each of four ids occurs."""

    embed_dim = 4

    def forward(self, tokens: Tokens) -> torch.Tensor:
        return nn.functional.one_hot(tokens.input_ids % 4, 4).sum(dim=1).float() + 0.1


def tokenizer(texts: list[str]) -> Tokens:
    ids = torch.tensor([[len(text), ord(text[0])] for text in texts])
    return Tokens(ids, torch.ones_like(ids, dtype=torch.bool))


def localiser(*, coarse: bool = True, fine: bool = True, compat: Any = None) -> LesionLocaliser:
    torch.manual_seed(0)
    channels = [PatchChannel("image", 40.0, 200.0, clip=True), PatchChannel("lesion_mask")]
    grid = PatchGrid([16] * 3, [2.0] * 3)
    stages = {}
    for name in ("coarse", "fine"):
        vision = BasicNet([16] * 3, base_channels=1, in_channels=2)
        model = HCLAL(vision, Letters(), image_projection=nn.Linear(vision.embed_dim, 4))
        grids: dict[str, Any] = {name: grid}
        recipe = LesionRecipe(channels, **grids, compat=compat)
        stages[name] = LesionStage(model, recipe, tokenizer)
    return LesionLocaliser(
        PlaceCascade(PLACES),
        coarse=stages["coarse"] if coarse else None,
        fine=stages["fine"] if fine else None,
        batch_size=2,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    ct, mask = np.full((24, 24, 24), -1000, np.int16), np.zeros((24, 24, 24), np.uint8)
    ct[4:20, 4:20, 4:20] = 50
    mask[6:8, 6:8, 6:8], mask[12:16, 12:16, 12:16] = 1, 2
    affine = np.diag([-2.0, -2.0, 2.0, 1.0])  # so that LPS is index times 2
    nib.save(nib.Nifti1Image(ct, affine), tmp_path / "CT.nii.gz")
    nib.save(nib.Nifti1Image(mask, affine), tmp_path / "SEG.nii.gz")
    return tmp_path


def listed(folder: Path, *rows: str, columns: str = f"image_path,image_path1,{BOX},note") -> Path:
    path = folder / "list.csv"
    path.write_text("\n".join([columns, *rows]) + "\n", encoding="utf-8-sig")
    return path


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_boxes_become_places(folder: Path) -> None:
    boxes = ["13,13,13,4,4,4,a", "27,27,27,8,8,8,b", "x,1,1,1,1,1,c", "500,0,0,9,9,9,d"]
    table = listed(
        folder, *(f"{IMAGES},{box}" for box in boxes), f"no.nii.gz,SEG.nii.gz,{boxes[0]}"
    )
    cascade = localiser()
    found = localise_list(table, cascade, images=folder)
    assert [lesion.cells["note"] for lesion in found] == ["a", "b", "c", "d", "a"]
    remarks = [lesion.remark for lesion in found]
    assert remarks[:2] == ["", ""]
    assert "not six numbers" in remarks[2] and "outside the image" in remarks[3]
    assert "no.nii.gz" in remarks[4]
    rows = rows_of(write_table(found, folder / "out" / "pred.csv"))
    assert list(rows[0])[8:] == [
        "note",
        "coarse_labels",
        "coarse_probs",
        "fine_to_coarse_labels",
        "fine_labels",
        "fine_probs",
        "pred",
        "remark",
    ]
    assert rows[0]["pred"] in ("Left apex", "Uterus") and rows[2]["pred"] == ""
    content = json.loads(write_json(found, folder / "places.json", cascade).read_text())
    assert content[0]["places"][0]["name"] == rows[0]["pred"]
    assert content[0]["places"][0]["path"][1] in ("Left lung", "Pelvis")
    assert "places" not in content[4]


def test_lesions_of_a_mask(folder: Path) -> None:
    table = listed(folder, f"{IMAGES},whole", columns="image_path,image_path1,note")
    rows = rows_of(
        write_table(localise_list(table, localiser(), mode="mask", images=folder), folder / "o.csv")
    )
    assert [row["class"] for row in rows] == ["bbox", "bbox"]
    assert [float(rows[1][name]) for name in BOX.split(",")] == [27, 27, 27, 8, 8, 8]
    published = localise_list(table, localiser(compat="published"), mode="mask", images=folder)
    assert float(published[1].cells["x"]) == 28  # half a voxel too far
    nib.save(nib.Nifti1Image(np.zeros((4, 4, 4), np.uint8), np.eye(4)), folder / "SEG.nii.gz")
    (empty,) = localise_list(table, localiser(), mode="mask", images=folder)
    assert empty.answer is None and empty.remark


def test_coarse_places_that_are_given_and_the_coarse_stage_alone(folder: Path) -> None:
    columns = f"image_path,image_path1,{BOX},coarse_labels,coarse_probs"
    boxes = ["13,13,13,4,4,4", "27,27,27,8,8,8"]
    cells = ['"Pelvis,Left lung","0.9,0.1"', '"Pelvis,Left lung",0.9']
    rows = [f"{IMAGES},{box},{cell}" for box, cell in zip(boxes, cells, strict=True)]
    table = listed(folder, *rows, columns=columns)
    good, bad = localise_list(table, localiser(coarse=False), images=folder)
    assert good.answer is not None and good.answer.coarse_probabilities == (0.9, 0.1)
    assert "as many numbers as names" in bad.remark
    alone = localise_list(table, localiser(fine=False), images=folder)
    written = rows_of(write_table(alone, folder / "coarse.csv", fine=False))
    assert list(written[0]) == columns.split(",")  # overwritten, none added
    assert alone[0].answer is not None and alone[0].answer.fine == ()


def test_the_patients_sex_rules_places_out(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    table = listed(folder, f"{IMAGES},13,13,13,4,4,4,a")
    (folder / "Body_CT.json").write_text('{"patient_sex": "M"}')
    (lesion,) = localise_list(table, localiser(), images=folder)
    assert lesion.answer is not None and lesion.answer.names == ("Left apex",)
    (folder / "Body_CT.json").write_text("{")
    (lesion,) = localise_list(table, localiser(), images=folder)
    assert lesion.answer is not None and len(lesion.answer.names) > 1
    assert "Body_CT.json is not readable JSON" in caplog.text


def test_lists_and_stages_that_cannot_be(folder: Path) -> None:
    with pytest.raises(ValueError, match="image_path1"):
        localise_list(listed(folder, "CT.nii.gz", columns="image_path"), localiser())
    with pytest.raises(ValueError, match="nothing to name by"):
        localiser(coarse=False, fine=False)
